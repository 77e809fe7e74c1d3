package credentials

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProcessGivesAKey(t *testing.T) {
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	k, err := get(t, `process:printf '{"AccessKeyId":"%s","AccessKeySecret":"s","SecurityToken":"t","Expiration":"`+until.Format(time.RFC3339)+`"}' "$((1+1))"`)
	if err != nil || k.ID != "2" || k.Secret != "s" || k.Token != "t" || !k.Expires.Equal(until) {
		t.Errorf("%v until %v, %v", k, k.Expires, err)
	}
	k, err = get(t, "process:"+keyIn("i"))
	if left := time.Until(k.Expires); err != nil || left <= 0 || left > processKeeps {
		t.Errorf("a key without an end is kept for %v, want at most %v: %v", left, processKeeps, err)
	}
}

// keyIn is a command that prints a key.
func keyIn(id string) string {
	return `echo '{"AccessKeyId":"` + id + `","AccessKeySecret":"s"}'`
}

func TestProcessThatFails(t *testing.T) {
	for command, says := range map[string]string{
		"echo 'log in first' >&2; exit 3": "exit status 3): log in first",
		"no-such-command-here":            "not found",
		"echo " + testSecret:              "must print",
		"true":                            "must print",
		// The key comes after more than is read.
		"yes ' ' | head -c 300000; " + keyIn("i"):  "must print",
		`echo '{"AccessKeyId":"i"}'`:               "no access key secret",
		"yes " + testSecret + " | head -c 2000000": "must print", // more than is read
	} {
		_, err := get(t, "process:"+command)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), testSecret) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: it does not say %q: %v", command, says, err)
		}
	}
}

// A command that hangs ends with its context, and all that it has started with it.
func TestProcessThatHangs(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	from, err := New("process:(echo $$ >>" + pids + "; sleep 1000) & sleep 1000 & echo $! >>" + pids + "; wait")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := from.Get(ctx)
		failed <- err
	}()
	var all string
	if err := waitUntil(t, func() bool {
		b, _ := os.ReadFile(pids)
		all = string(b)
		return strings.Count(all, "\n") == 2
	}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "has not ended") {
		t.Error(err)
	}
	for _, pid := range strings.Fields(all) {
		if err := waitUntil(t, func() bool {
			b, err := os.ReadFile("/proc/" + pid + "/stat")
			return err != nil || strings.Contains(string(b), ") Z ")
		}); err != nil {
			t.Errorf("process %s goes on: %v", pid, err)
		}
	}
}
