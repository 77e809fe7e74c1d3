package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
)

// mount8 runs a script with the system's mount(8) and umount(8), which find ours as
// their helpers: in a mount namespace of its own, where /sbin holds nothing but them.
// What is mounted in it is mounted nowhere else, and ends with the last process in it.
// $B is the binary, $D the directory of the test.
func (e *env) mount8(script string) harness.Result {
	e.Helper()
	e.Cleanup(e.endDaemons)
	sbin := e.path("sbin")
	e.ok(os.MkdirAll(sbin, 0o755))
	for _, name := range []string{"mount.fuse.ossmount", "umount.fuse.ossmount"} {
		if err := os.Symlink(binary, filepath.Join(sbin, name)); err != nil && !os.IsExist(err) {
			e.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	env := append(harness.Credentials(), "LC_ALL=C", "B="+binary, "D="+e.dir, "OSSMOUNT_ENDPOINT="+e.server.URL, "OSSMOUNT_REGION="+harness.Region)
	r, err := harness.Run(ctx, env, "unshare", "--mount", "--propagation", "slave", "/bin/sh", "-euc", `mount --bind "$D/sbin" /sbin`+"\n"+script)
	e.ok(err)
	return r
}

// endDaemons ends the daemons that a script has left, which is a failure.
func (e *env) endDaemons() {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	e.check(err)
	for _, path := range all {
		args, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(args, []byte("\x00mount\x00")) || !bytes.Contains(args, []byte(e.dir+"/")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		e.check(err)
		e.check(syscall.Kill(pid, syscall.SIGKILL))
		e.Errorf("a daemon is left, process %d: %s", pid, bytes.ReplaceAll(args, []byte{0}, []byte{' '}))
	}
}

func (e *env) went(r harness.Result, code int, parts ...string) {
	e.Helper()
	if r.Code != code {
		e.Fatalf("want exit %d, got %v", code, r)
	}
	for _, part := range parts {
		if !strings.Contains(r.Out+r.Err, part) {
			e.Errorf("%q is not in what it says: %v", part, r)
		}
	}
}

// mount -t fuse.ossmount returns when the mount serves, and umount when what was
// pending is on OSS.
func TestMount8(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.ok(os.Mkdir(e.path("mnt"), 0o755))
	e.went(e.mount8(`
		mount -t fuse.ossmount oss://`+harness.Bucket+`/pre "$D/mnt" -o "cache_dir=$D/cache,write_back_delay=1h,noexec,_netdev,nofail,eager_skip=\"*.a,*.b\",file_mode=0640"
		findmnt -n -o FSTYPE,SOURCE,OPTIONS "$D/mnt"
		printf pending >"$D/mnt/f"
		printf '#!/bin/sh\necho it runs\n' >"$D/mnt/program"
		chmod 755 "$D/mnt/program"
		"$D/mnt/program" || echo "it does not: $?"
		umount "$D/mnt"
		findmnt "$D/mnt" || echo none`), 0, "fuse.ossmount", "oss://"+harness.Bucket+"/pre", "noexec", "it does not: 126", "none")
	e.object("pre/f", "pending")
	if log, err := os.ReadFile(e.path("cache/daemon.log")); err != nil || bytes.Contains(log, []byte("somebody else")) {
		t.Errorf("umount(8) did not ask us to unmount: %.2000q, %v", log, err)
	}
}

// A line of fstab is all that is needed, also with settings in a file; ro is ro.
func TestFstab(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.put("there", strings.NewReader("there"))
	e.ok(os.Mkdir(e.path("mnt"), 0o755))
	e.write(e.path("settings.yaml"), "cache-dir: "+e.path("cache")+"\nlog-level: debug\n")
	e.write(e.path("fstab"), fmt.Sprintf("oss://%s %s fuse.ossmount ro,noauto,_netdev,x-systemd.automount,config=%s 0 0\n", harness.Bucket, e.path("mnt"), e.path("settings.yaml")))
	e.went(e.mount8(`
		mount -T "$D/fstab" "$D/mnt"
		findmnt -n -o OPTIONS "$D/mnt"
		cat "$D/mnt/there"
		touch "$D/mnt/new" || echo "no change: $?"
		umount "$D/mnt"`), 0, "ro,", "there", "Read-only file system", "no change: 1")
	log, err := os.ReadFile(e.path("cache/daemon.log"))
	if err != nil || !bytes.Contains(log, []byte("level=DEBUG")) {
		t.Errorf("the log is %.200q, %v", log, err)
	}
}

// Without our helper umount returns at once, and the daemon carries on by itself.
func TestUmount8WithoutItsHelper(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.ok(os.Mkdir(e.path("mnt"), 0o755))
	e.went(e.mount8(`
		mount -t fuse.ossmount oss://`+harness.Bucket+` "$D/mnt" -o "cache_dir=$D/cache,write_back_delay=1h"
		pid=$("$B" status --json "$D/mnt" | sed -n 's/^  "pid": \([0-9]*\),/\1/p')
		printf pending >"$D/mnt/f"
		umount --internal-only "$D/mnt"
		timeout 60 tail --pid="$pid" -f /dev/null`), 0)
	e.object("f", "pending")
	log, err := os.ReadFile(e.path("cache/daemon.log"))
	if err != nil || !bytes.Contains(log, []byte("somebody else has unmounted")) {
		t.Errorf("the log is %.2000q, %v", log, err)
	}
}

// What is wrong is told, with the exit codes of mount(8); what is left is told by
// umount, which has unmounted all the same.
func TestMount8Refuses(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.ok(os.Mkdir(e.path("mnt"), 0o755))
	source := "oss://" + harness.Bucket
	e.went(e.mount8(`mount -t fuse.ossmount `+source+` "$D/mnt" -o cache_dri=/x`), 1, "-o cache_dri: there is no setting", "perhaps cache-dir is meant")
	e.went(e.mount8(`mount -t fuse.ossmount `+source+` "$D/nowhere" -o "cache_dir=$D/cache"`), 32, "nowhere")
	e.went(e.mount8(`mount -t fuse.ossmount nowhere "$D/mnt" -o "cache_dir=$D/cache"`), 1, "is not what can be mounted")
	e.went(e.mount8(`
		mount -s -t fuse.ossmount `+source+` "$D/mnt" -o "_netdev,what=1,cache_dir=$D/cache,write_back_delay=1h,drain=0s"
		printf pending >"$D/mnt/f"
		exec 3>"$D/mnt/open"
		umount "$D/mnt" || echo "busy: $?"
		umount -f "$D/mnt"
		findmnt "$D/mnt" || echo none`), 0, "busy: 32", "open for writing: open", "stay in the journal", "none")
	r, err := harness.Run(e.soon(), harness.Credentials(), binary, "drain", "--cache-dir="+e.path("cache"), "--region="+harness.Region, "--timeout="+time.Minute.String())
	e.ok(err)
	e.object("f", "pending")
	e.went(r, 4, "interrupted")
}
