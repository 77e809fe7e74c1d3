package ossemu

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// Temporary keys come and go while the server runs, over the admin address.
func TestTokensComeAndGo(t *testing.T) {
	r := newRig(t)
	client, err := oss.New(r.web.URL, "STS.1", "s1", oss.AuthVersion(oss.AuthV4), oss.Region(testRegion), oss.SecurityToken("t1"))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := client.Bucket(testBucket)
	put := func() error { return b.PutObject("k", strings.NewReader("x")) }
	until := func(end time.Time) {
		t.Helper()
		r.admin("PUT", "/tokens", `{"access_key_id":"STS.1","access_key_secret":"s1","security_token":"t1","expires":"`+end.Format(time.RFC3339)+`"}`, nil)
	}
	wantCode(t, put(), 403, "InvalidSecurityToken")
	until(time.Now().Add(time.Hour))
	if err := put(); err != nil {
		t.Fatal(err)
	}
	var log []requestInfo
	r.admin("GET", "/log", "", &log)
	if last := log[len(log)-1]; last.Access != "STS.1" || last.Status != 200 {
		t.Errorf("%+v", last)
	}
	until(time.Now().Add(-time.Hour))
	wantCode(t, put(), 403, "SecurityTokenExpired")
	var all []tokenInfo
	r.admin("GET", "/tokens", "", &all)
	if len(all) != 1 || all[0].AccessKeyID != "STS.1" || !all[0].Expired {
		t.Errorf("%+v", all)
	}
	until(time.Now().Add(time.Hour))
	if err := put(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/tokens/STS.1", "/tokens"} {
		until(time.Now().Add(time.Hour))
		r.admin("DELETE", path, "", &all)
		if wantCode(t, put(), 403, "InvalidSecurityToken"); len(all) != 0 {
			t.Errorf("%s: %+v", path, all)
		}
	}
	for _, body := range []string{`{}`, `{"access_key_id":"a","access_key_secret":"b"}`, `{"access_key_id":"a","access_key_secret":"b","security_token":"c","more":1}`} {
		if status := r.admin("PUT", "/tokens", body, nil); status != http.StatusBadRequest {
			t.Errorf("%s: status %d", body, status)
		}
	}
}
