package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ossmount/ossmount/internal/object"
)

func wantFate(t *testing.T, err error, want object.Fate) {
	t.Helper()
	wantKind(t, err, object.Again)
	if f := object.FateOf(err); f != want {
		t.Fatalf("fate %d, want %d: %v", f, want, err)
	}
}

// drop ends the connection without an answer.
var drop = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	panic(http.ErrAbortHandler)
})

func TestNobodyThere(t *testing.T) {
	s := httptest.NewServer(drop)
	s.Close()
	c := open(t, s.URL, nil)
	for op, f := range ops {
		t.Run(op, func(t *testing.T) { wantFate(t, f(t, c), object.NotSent) })
	}
}

func TestNoAnswer(t *testing.T) {
	c := open(t, serve(t, drop), nil)
	for op, f := range ops {
		t.Run(op, func(t *testing.T) { wantFate(t, f(t, c), object.Unknown) })
	}
}

func TestNoCredentials(t *testing.T) {
	keys := &source{fails: errors.New("the file of the key is not there: make it")}
	c := open(t, serve(t, drop), func(o *Options) { o.Credentials = keys })
	for op, f := range ops {
		err := f(t, c)
		wantKind(t, err, object.Wait)
		if object.FateOf(err) != object.NotSent || !strings.Contains(err.Error(), "make it") {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestCancelledBeforeItLeft(t *testing.T) {
	c := open(t, serve(t, drop), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Put(ctx, "k", strings.NewReader("x"), 1, object.PutOptions{})
	wantFate(t, err, object.NotSent)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wantFate(t, c.Delete(ctx, "k"), object.NotSent)
	_, err = c.List(ctx, object.ListQuery{})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestCancelledWhenAllWasSent(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := open(t, serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	})), nil)
	_, err := c.Put(ctx, "k", strings.NewReader("x"), 1, object.PutOptions{})
	wantFate(t, err, object.Unknown)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// A body far larger than all buffers between here and there.
const huge = 64 << 20

// zeros is an endless body that is read on one goroutine at a time only: the
// race detector sees a read that goes on after the call has returned.
type zeros struct{ read int64 }

func (z *zeros) Read(p []byte) (int, error) {
	clear(p)
	z.read += int64(len(p))
	return len(p), nil
}

func TestBodyBrokenOff(t *testing.T) {
	for name, h := range map[string]func(cancel func()) http.HandlerFunc{
		"by the server": func(func()) http.HandlerFunc {
			return func(_ http.ResponseWriter, r *http.Request) {
				io.CopyN(io.Discard, r.Body, 1<<20)
				panic(http.ErrAbortHandler)
			}
		},
		"by a reset": func(func()) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				nc, _, err := w.(http.Hijacker).Hijack()
				if err == nil {
					nc.(*net.TCPConn).SetLinger(0)
					nc.Close()
				}
			}
		},
		"by the caller": func(cancel func()) http.HandlerFunc {
			return func(_ http.ResponseWriter, r *http.Request) {
				io.CopyN(io.Discard, r.Body, 1<<20)
				cancel()
				io.Copy(io.Discard, r.Body) // to the break
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := open(t, serve(t, h(cancel)), nil)
			z := &zeros{}
			_, err := c.UploadPart(ctx, "k", "U", 1, z, huge)
			wantFate(t, err, object.NotSent)
			if z.read++; z.read > huge {
				t.Error("read as a whole")
			}
		})
	}
}

func TestRefusedBeforeTheBodyWasRead(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		code   string
		kind   object.Kind
	}{
		"403": {403, "AccessDenied", object.Denied},
		"500": {500, "InternalError", object.Again},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Body = http.NoBody
				asOSS(tc.status, tc.code, "")(w, r)
			})), nil)
			z := &zeros{}
			_, err := c.Put(t.Context(), "k", z, huge, object.PutOptions{})
			z.read++
			// The answer, or the broken connection that hides it.
			if k := object.KindOf(err); k != tc.kind && k != object.Again {
				t.Fatal(err)
			}
			if object.FateOf(err) != object.NotSent {
				t.Fatalf("fate %d: %v", object.FateOf(err), err)
			}
		})
	}
}

func TestReaderOfTheBodyFails(t *testing.T) {
	c := open(t, serve(t, drop), nil)
	bad := errors.New("disk is ill")
	_, err := c.Put(t.Context(), "k", io.MultiReader(strings.NewReader("some"), errReader{bad}), 100, object.PutOptions{})
	wantFate(t, err, object.NotSent)
	if !errors.Is(err, bad) {
		t.Fatal(err)
	}
	// Behind the last byte that counts it is nobody's concern.
	var got []byte
	c = open(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		w.Header().Set("ETag", `"E"`)
	})), nil)
	ref, err := c.Put(t.Context(), "k", io.MultiReader(strings.NewReader("some"), errReader{bad}), 4, object.PutOptions{})
	if err != nil || string(got) != "some" || ref.HasCRC || ref.ETag != "E" {
		t.Fatal(ref, err)
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func TestStoredBytesAreOthers(t *testing.T) {
	c := open(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"E"`)
		w.Header().Set("X-Oss-Hash-Crc64ecma", "12345")
	})), nil)
	_, err := c.Put(t.Context(), "k", strings.NewReader("abc"), 3, object.PutOptions{})
	wantFate(t, err, object.Unknown)
	_, err = c.UploadPart(t.Context(), "k", "U", 1, strings.NewReader("abc"), 3)
	wantFate(t, err, object.Unknown)
}

// What must not go out does not: an empty key would be a request on the
// bucket, an Abort without an upload ID a DeleteObject.
func TestNotEvenAsked(t *testing.T) {
	c := open(t, serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Error(r.Method, r.URL) })), nil)
	ctx, o, ref := t.Context(), object.PutOptions{}, object.Ref{Key: "k", ETag: "E", Size: 9}
	one := func() io.Reader { return bytes.NewReader([]byte{1}) }
	for name, f := range map[string]func() error{
		"head":        func() error { _, err := c.Head(ctx, ""); return err },
		"get":         func() error { _, err := c.Get(ctx, object.Ref{Size: 1}, 0, 1); return err },
		"get before":  func() error { _, err := c.Get(ctx, ref, -1, 1); return err },
		"get less":    func() error { _, err := c.Get(ctx, ref, 1, -1); return err },
		"put":         func() error { _, err := c.Put(ctx, "", one(), 1, o); return err },
		"put no body": func() error { _, err := c.Put(ctx, "k", nil, 1, o); return err },
		"put less":    func() error { _, err := c.Put(ctx, "k", one(), -1, o); return err },
		"put bad meta": func() error {
			_, err := c.Put(ctx, "k", one(), 1, object.PutOptions{Meta: object.Meta{"a": "x\ny"}})
			return err
		},
		"put bad meta name": func() error {
			_, err := c.Put(ctx, "k", one(), 1, object.PutOptions{Meta: object.Meta{"a b": "x"}})
			return err
		},
		"copy":               func() error { _, err := c.Copy(ctx, ref, "", o); return err },
		"copy of nothing":    func() error { _, err := c.Copy(ctx, object.Ref{}, "k", o); return err },
		"delete":             func() error { return c.Delete(ctx, "") },
		"initiate":           func() error { _, err := c.Initiate(ctx, "", o); return err },
		"part":               func() error { _, err := c.UploadPart(ctx, "", "U", 1, one(), 1); return err },
		"part of no upload":  func() error { _, err := c.UploadPart(ctx, "k", "", 1, one(), 1); return err },
		"part copy past end": func() error { _, err := c.UploadPartCopy(ctx, "k", "U", 1, ref, 5, 5); return err },
		"complete":           func() error { _, err := c.Complete(ctx, "k", "U", nil, o); return err },
		"complete no upload": func() error { _, err := c.Complete(ctx, "k", "", []object.Part{{Number: 1}}, o); return err },
		"abort":              func() error { return c.Abort(ctx, "", "U") },
		"abort no upload":    func() error { return c.Abort(ctx, "k", "") },
		"parts":              func() error { _, err := c.Parts(ctx, "k", ""); return err },
		"uploads":            func() error { _, err := c.Uploads(ctx, ""); return err },
	} {
		err := f()
		if object.KindOf(err) != object.Parked || object.FateOf(err) != object.NotSent {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d, err := c.DeleteMany(ctx, []string{"", "\xff"}); len(d) != 0 || err != nil {
		t.Error(d, err)
	}
}
