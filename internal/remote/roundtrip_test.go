package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/internal/ossemu"
)

// The keys that addressing, signing, copying, listing and deleting have to
// agree on.
var oddKeys = []string{
	"plain.txt",
	"a/b c+d~é/../x//y.txt",
	"percent%2F%41?acl&x=y#z",
	"trailing/",
	"quote\"'<&>;",
	"control\x01\x02\x1f\x7f\r\n\tend",
	"日本語/ファイル",
	"dots/./..",
	"*~!@$()[]{}|^`,=:",
	" blank both ends ",
}

// withOSS runs f against the emulator, once signed by V1 and once by V4.
// crcTable is the standard library's, to judge ours.
var crcTable = crc64.MakeTable(crc64.ECMA)

func withOSS(t *testing.T, f func(t *testing.T, c *Client)) {
	for _, region := range []string{"", "cn-hangzhou"} {
		name := "V1"
		if region != "" {
			name = "V4"
		}
		t.Run(name, func(t *testing.T) {
			srv, err := ossemu.Open(t.Context(), t.TempDir(), ossemu.Options{
				Keys: map[string]string{testID: testSecret}, Region: "cn-hangzhou"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { srv.Close() })
			if err := srv.CreateBucket("bkt"); err != nil {
				t.Fatal(err)
			}
			h := httptest.NewServer(srv)
			t.Cleanup(h.Close)
			f(t, open(t, h.URL, func(o *Options) { o.Region = region }))
		})
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func mustGet(t *testing.T, c *Client, ref object.Ref, off, n int64) []byte {
	t.Helper()
	rc, err := c.Get(t.Context(), ref, off, n)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustPut(t *testing.T, c *Client, key string, data []byte) object.Ref {
	t.Helper()
	ref, err := c.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)), object.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func wantKind(t *testing.T, err error, want object.Kind) {
	t.Helper()
	if err == nil || object.KindOf(err) != want {
		t.Fatalf("kind %v, want %v: %v", object.KindOf(err), want, err)
	}
}

func TestEveryKeyGoesThereAndBack(t *testing.T) {
	withOSS(t, func(t *testing.T, c *Client) {
		ctx := t.Context()
		if err := c.Check(ctx, "some/prefix"); err != nil {
			t.Fatal(err)
		}
		for _, key := range oddKeys {
			data := noise(3000)
			o := object.PutOptions{
				Meta: object.Meta{"mode": "33188", "name": " blanks outside "},
				Headers: object.Headers{"Content-Type": "text/x-odd", "Cache-Control": "no-cache",
					"Content-Disposition": "attachment", "Content-Encoding": "gzip", "Content-Language": "en"},
			}
			ref, err := c.Put(ctx, key, bytes.NewReader(data), int64(len(data)), o)
			if err != nil {
				t.Fatalf("%q: %v", key, err)
			}
			if !ref.HasCRC || ref.CRC64 != crc64.Checksum(data, crcTable) || ref.Size != 3000 || strings.Contains(ref.ETag, `"`) {
				t.Fatalf("%q: %+v", key, ref)
			}
			info, err := c.Head(ctx, key)
			if err != nil {
				t.Fatalf("%q: %v", key, err)
			}
			if info.Ref != ref {
				t.Fatalf("head %+v, put %+v", info.Ref, ref)
			}
			if want := (object.Meta{"mode": "33188", "name": "blanks outside"}); !reflect.DeepEqual(info.Meta, want) {
				t.Fatalf("meta %v", info.Meta)
			}
			for name, value := range o.Headers {
				if info.Headers[name] != value {
					t.Errorf("%s: %q, want %q", name, info.Headers[name], value)
				}
			}
			if info.Asked.IsZero() || info.LastModified.IsZero() || info.Type != "Normal" {
				t.Errorf("%+v", info)
			}
			if !bytes.Equal(mustGet(t, c, ref, 0, ref.Size), data) || !bytes.Equal(mustGet(t, c, ref, 17, 1000), data[17:1017]) {
				t.Errorf("%q: other bytes", key)
			}
			dst, err := c.Copy(ctx, ref, "copies/"+key, object.PutOptions{Meta: object.Meta{"new": "1"}})
			if err != nil {
				t.Fatalf("%q: %v", key, err)
			}
			if info, err = c.Head(ctx, dst.Key); err != nil || info.Ref != dst || !reflect.DeepEqual(info.Meta, object.Meta{"new": "1"}) ||
				info.Headers["Content-Encoding"] != "" {
				t.Fatalf("%+v %v, copy %+v", info, err, dst)
			}
			id, err := c.Initiate(ctx, key, object.PutOptions{})
			if err != nil {
				t.Fatalf("%q: %v", key, err)
			}
			ups, err := c.Uploads(ctx, key)
			if err != nil || len(ups) != 1 || ups[0].ID != id || ups[0].Key != key || ups[0].Initiated.IsZero() {
				t.Fatalf("%q: %v %v", key, ups, err)
			}
			part, err := c.UploadPart(ctx, key, id, 1, bytes.NewReader(data), 3000)
			if err != nil {
				t.Fatalf("%q: %v", key, err)
			}
			done, err := c.Complete(ctx, key, id, []object.Part{part}, object.PutOptions{})
			if err != nil || done.CRC64 != ref.CRC64 || !done.HasCRC {
				t.Fatalf("%q: %+v %v", key, done, err)
			}
		}
		var got []string
		for q := (object.ListQuery{Max: 3}); ; {
			page, err := c.List(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Entries {
				got = append(got, e.Key)
			}
			if q.Token = page.Next; q.Token == "" {
				break
			}
		}
		var want []string
		for _, key := range oddKeys {
			want = append(want, key, "copies/"+key)
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("listed %q\nwant   %q", got, want)
		}
		deleted, err := c.DeleteMany(ctx, append(oddKeys, "never there", "not\xff text", ""))
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(deleted)
		want = append([]string{"never there"}, oddKeys...)
		slices.Sort(want)
		if !slices.Equal(deleted, want) {
			t.Fatalf("deleted %q\nwant    %q", deleted, want)
		}
		for _, key := range oddKeys {
			if err := c.Delete(ctx, "copies/"+key); err != nil {
				t.Fatal(err)
			}
			_, err := c.Head(ctx, "copies/"+key)
			wantKind(t, err, object.Absent)
			_, err = c.Get(ctx, object.Ref{Key: key, Size: 5, ETag: "x"}, 0, 5)
			wantKind(t, err, object.Absent)
		}
	})
}

func TestEmptyObject(t *testing.T) {
	withOSS(t, func(t *testing.T, c *Client) {
		for _, body := range []io.Reader{nil, bytes.NewReader(nil), strings.NewReader("more than counts")} {
			ref, err := c.Put(t.Context(), "dir/", body, 0, object.PutOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if info, err := c.Head(t.Context(), "dir/"); err != nil || info.Size != 0 || info.Ref != ref || !ref.HasCRC || ref.CRC64 != 0 {
				t.Fatalf("%+v %v", info, err)
			}
			if b := mustGet(t, c, ref, 0, 0); len(b) != 0 {
				t.Fatal(b)
			}
		}
	})
}

func TestMultipart(t *testing.T) {
	withOSS(t, func(t *testing.T, c *Client) {
		ctx := t.Context()
		data := noise(700_000)
		base := mustPut(t, c, "base", data)
		id, err := c.Initiate(ctx, "big", object.PutOptions{Meta: object.Meta{"ossmount": "c.1"}})
		if err != nil {
			t.Fatal(err)
		}
		p1, err := c.UploadPart(ctx, "big", id, 1, bytes.NewReader(data[:300_000]), 300_000)
		if err != nil {
			t.Fatal(err)
		}
		p2, err := c.UploadPartCopy(ctx, "big", id, 2, base, 300_000, 200_000)
		if err != nil {
			t.Fatal(err)
		}
		p3, err := c.UploadPart(ctx, "big", id, 3, bytes.NewReader(data[500_000:]), 200_000)
		if err != nil {
			t.Fatal(err)
		}
		held, err := c.Parts(ctx, "big", id)
		if err != nil || len(held) != 3 {
			t.Fatal(held, err)
		}
		crc := uint64(0)
		for i, p := range []object.Part{p1, p2, p3} {
			if h := held[i]; h.Number != i+1 || h.Size != p.Size || !object.SameETag(h.ETag, p.ETag) || !h.HasCRC || (p.HasCRC && p.CRC64 != h.CRC64) {
				t.Fatalf("%+v, held %+v", p, h)
			}
			crc = oss.CRC64Combine(crc, held[i].CRC64, uint64(held[i].Size))
		}
		ref, err := c.Complete(ctx, "big", id, []object.Part{p3, p1, p2}, object.PutOptions{})
		if err != nil || ref.Size != 700_000 || !ref.HasCRC || ref.CRC64 != crc || crc != crc64.Checksum(data, crcTable) {
			t.Fatalf("%+v %v, crc %d", ref, err, crc)
		}
		if !bytes.Equal(mustGet(t, c, ref, 0, ref.Size), data) {
			t.Fatal("other bytes")
		}
		if info, err := c.Head(ctx, "big"); err != nil || info.Ref != ref || info.Meta["ossmount"] != "c.1" {
			t.Fatalf("%+v %v", info, err)
		}
		_, err = c.Complete(ctx, "big", id, []object.Part{p1}, object.PutOptions{})
		wantKind(t, err, object.Restart)
		_, err = c.Parts(ctx, "big", id)
		wantKind(t, err, object.Restart)
		_, err = c.UploadPart(ctx, "big", id, 1, strings.NewReader("x"), 1)
		wantKind(t, err, object.Restart)
		if err := c.Abort(ctx, "big", id); err != nil {
			t.Fatal(err)
		}

		id, err = c.Initiate(ctx, "big", object.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Complete(ctx, "big", id, []object.Part{{Number: 1, ETag: "NONE"}}, object.PutOptions{})
		wantKind(t, err, object.Restart)
		if err := c.Abort(ctx, "big", id); err != nil {
			t.Fatal(err)
		}
		if ups, err := c.Uploads(ctx, "big"); err != nil || len(ups) != 0 {
			t.Fatal(ups, err)
		}
	})
}

func TestPagesOfPartsAndUploads(t *testing.T) {
	withOSS(t, func(t *testing.T, c *Client) {
		ctx := t.Context()
		var ids []string
		for range 1003 {
			id, err := c.Initiate(ctx, "k", object.PutOptions{})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		if _, err := c.Initiate(ctx, "k/below", object.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		ups, err := c.Uploads(ctx, "k")
		if err != nil || len(ups) != 1003 {
			t.Fatal(len(ups), err)
		}
		for n := 1; n <= 1001; n++ {
			if _, err := c.UploadPart(ctx, "k", ids[0], n, strings.NewReader("x"), 1); err != nil {
				t.Fatal(err)
			}
		}
		parts, err := c.Parts(ctx, "k", ids[0])
		if err != nil || len(parts) != 1001 || parts[1000].Number != 1001 {
			t.Fatal(len(parts), err)
		}
		keys := []string{}
		for i := range 2001 {
			keys = append(keys, fmt.Sprint("d", i))
		}
		if deleted, err := c.DeleteMany(ctx, keys); err != nil || len(deleted) != 2001 {
			t.Fatal(len(deleted), err)
		}
	})
}

func TestListFoldsAndContinues(t *testing.T) {
	withOSS(t, func(t *testing.T, c *Client) {
		for _, key := range []string{"d/", "d/a", "d/b+c/1", "d/b+c/2", "d/z", "e"} {
			mustPut(t, c, key, []byte(key))
		}
		p, err := c.List(t.Context(), object.ListQuery{Prefix: "d/", Delimiter: "/"})
		if err != nil || len(p.Entries) != 3 || p.Entries[1].Key != "d/a" || !slices.Equal(p.Prefixes, []string{"d/b+c/"}) || p.Next != "" || p.Asked.IsZero() {
			t.Fatalf("%+v %v", p, err)
		}
		e := p.Entries[1]
		if info, err := c.Head(t.Context(), "d/a"); err != nil || !info.Same(e.Ref()) || !info.LastModified.Equal(e.LastModified) {
			t.Fatalf("%+v, listed %+v, %v", info, e, err)
		}
		p, err = c.List(t.Context(), object.ListQuery{Prefix: "d/", Delimiter: "/", After: "d/b+c0"})
		if err != nil || len(p.Entries) != 1 || p.Entries[0].Key != "d/z" || len(p.Prefixes) != 0 {
			t.Fatalf("%+v %v", p, err)
		}
	})
}

func TestConditions(t *testing.T) {
	withOSS(t, func(t *testing.T, c *Client) {
		ctx := t.Context()
		old := mustPut(t, c, "k", []byte("old"))
		now := mustPut(t, c, "k", []byte("newer"))
		_, err := c.Get(ctx, old, 0, 3)
		wantKind(t, err, object.Conflict)
		_, err = c.Get(ctx, old, 1, 1)
		wantKind(t, err, object.Conflict)
		_, err = c.Copy(ctx, old, "copy", object.PutOptions{})
		wantKind(t, err, object.Conflict)
		_, err = c.Copy(ctx, object.Ref{Key: "none", ETag: "x"}, "copy", object.PutOptions{})
		wantKind(t, err, object.Absent)
		_, err = c.Put(ctx, "k", strings.NewReader("x"), 1, object.PutOptions{ForbidOverwrite: true})
		wantKind(t, err, object.Conflict)
		_, err = c.Copy(ctx, now, "k", object.PutOptions{ForbidOverwrite: true})
		wantKind(t, err, object.Conflict)
		_, err = c.Initiate(ctx, "k", object.PutOptions{ForbidOverwrite: true})
		wantKind(t, err, object.Conflict)
		id, err := c.Initiate(ctx, "k", object.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.UploadPartCopy(ctx, "k", id, 1, old, 0, 3)
		wantKind(t, err, object.Conflict)
		p, err := c.UploadPart(ctx, "k", id, 1, strings.NewReader("x"), 1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Complete(ctx, "k", id, []object.Part{p}, object.PutOptions{ForbidOverwrite: true})
		wantKind(t, err, object.Conflict)
		if object.FateOf(err) != object.Answered {
			t.Fatal(object.FateOf(err))
		}
		wrong := now
		wrong.Size = 9
		_, err = c.Get(ctx, wrong, 1, 2)
		wantKind(t, err, object.Conflict)
		_, err = c.Get(ctx, wrong, 0, 9) // by its ETag it is that version: the answer was cut short
		wantKind(t, err, object.Again)
		_, err = c.Get(ctx, wrong, 7, 2)
		wantKind(t, err, object.Conflict)
		_, err = c.Put(ctx, "/slash", strings.NewReader("x"), 1, object.PutOptions{})
		wantKind(t, err, object.Parked)
		_, err = c.Put(ctx, strings.Repeat("x", 1024), strings.NewReader("x"), 1, object.PutOptions{})
		wantKind(t, err, object.Parked)
	})
}

func TestABodyThatEndsEarlyChangesNothing(t *testing.T) {
	withOSS(t, func(t *testing.T, c *Client) {
		ref := mustPut(t, c, "k", []byte("old"))
		_, err := c.Put(t.Context(), "k", strings.NewReader("short"), 100_000, object.PutOptions{})
		wantKind(t, err, object.Again)
		if object.FateOf(err) != object.NotSent || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(object.FateOf(err), err)
		}
		if info, err := c.Head(t.Context(), "k"); err != nil || info.Ref != ref {
			t.Fatal(info, err)
		}
	})
}

func TestCheckNamesTheRemedy(t *testing.T) {
	srv, err := ossemu.Open(t.Context(), t.TempDir(), ossemu.Options{
		Keys: map[string]string{testID: testSecret}, Region: "cn-hangzhou"})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	if err := srv.CreateBucket("bkt"); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(http.Handler(srv))
	defer h.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>log in</html>") }))
	defer portal.Close()
	for name, tc := range map[string]struct {
		url  string
		set  func(*Options)
		kind object.Kind
		text string
	}{
		"no such bucket":   {h.URL, func(o *Options) { o.Bucket = "other" }, object.Wait, "create it or correct the name"},
		"unknown key":      {h.URL, func(o *Options) { o.Credentials = fixed{"nobody", testSecret, ""} }, object.Wait, "write another one"},
		"wrong secret":     {h.URL, func(o *Options) { o.Credentials = fixed{testID, "wrong", ""} }, object.Wait, "write another one"},
		"wrong secret, V4": {h.URL, func(o *Options) { o.Credentials, o.Region = fixed{testID, "wrong", ""}, "cn-hangzhou" }, object.Wait, "write another one"},
		"wrong region":     {h.URL, func(o *Options) { o.Region = "cn-beijing" }, object.Wait, "region"},
		"nobody there":     {gone.URL, func(o *Options) {}, object.Again, "check the endpoint and the network"},
		"something else":   {portal.URL, func(o *Options) {}, object.Again, "does not answer as OSS does"},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, tc.url, tc.set)
			err := c.Check(context.Background(), "p/")
			wantKind(t, err, tc.kind)
			if !strings.Contains(err.Error(), tc.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
			t.Log(err)
		})
	}
}
