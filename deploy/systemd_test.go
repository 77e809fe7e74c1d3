package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	unit     = "systemd/ossmount@.service"
	userUnit = "systemd/user/ossmount@.service"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// installed is the unit as it is checked: with a program that is there.
func installed(t *testing.T, path string) string {
	t.Helper()
	text := read(t, path)
	if strings.Count(text, "/usr/bin/ossmount") != 1 {
		t.Fatalf("%s does not run /usr/bin/ossmount once", path)
	}
	at := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(at, []byte(strings.Replace(text, "/usr/bin/ossmount", "/bin/true", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	return at
}

// analyze runs systemd-analyze, which needs no service manager for what is asked here.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("systemd-analyze", args...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir(), "SYSTEMD_COLORS=0")
	out, err := cmd.CombinedOutput()
	if _, ran := err.(*exec.ExitError); err != nil && !ran {
		t.Fatalf("systemd-analyze: %v (install systemd; .ci/tools does)", err)
	}
	return string(out), err
}

func TestUnitsAreVerified(t *testing.T) {
	for path, whose := range map[string]string{unit: "--system", userUnit: "--user"} {
		out, err := analyze(t, whose, "verify", "--man=no", installed(t, path))
		if err != nil {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
		for line := range strings.Lines(out) { // it warns of units of this machine, too
			if strings.Contains(line, "ossmount") {
				t.Errorf("%s: %s", path, line)
			}
		}
	}
}

// The exposure that systemd-analyze computes, in tenths; docs/systemd.md says where
// the rest comes from.
func TestUnitIsHardened(t *testing.T) {
	if out, err := analyze(t, "security", "--offline=yes", "--no-pager", "--threshold=45", installed(t, unit)); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// settings of a unit file, by name.
func settings(t *testing.T, path string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(\w+)=(.*)$`).FindAllStringSubmatch(read(t, path), -1) {
		all[m[1]] = m[2]
	}
	return all
}

// A service with a mount namespace of its own mounts for itself alone.
func TestUnitsHaveNoMountNamespace(t *testing.T) {
	for _, path := range []string{unit, userUnit} {
		has := settings(t, path)
		for _, name := range []string{
			"PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateUsers", "PrivateIPC", "PrivatePIDs",
			"ProtectSystem", "ProtectHome", "ProtectProc", "ProcSubset",
			"ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups",
			"ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths",
			"BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem", "MountFlags", "MountAPIVFS",
			"RootDirectory", "RootImage", "DynamicUser", "LogNamespace", "ExtensionImages", "ExtensionDirectories",
		} {
			if v, set := has[name]; set {
				t.Errorf("%s has %s=%s: nobody but the service would see the mount", path, name, v)
			}
		}
	}
}

// TimeoutStopSec covers the default of --drain and the 30 s that the daemon asks for
// beside it.
func TestUnitsLeaveTimeToDrain(t *testing.T) {
	drain := defaultOf(t, "drain")
	for _, path := range []string{unit, userUnit} {
		if got, err := time.ParseDuration(settings(t, path)["TimeoutStopSec"]); err != nil || got < drain+30*time.Second {
			t.Errorf("%s: TimeoutStopSec is %v (%v), and --drain is %v", path, got, err, drain)
		}
	}
}

// defaultOf is the default of a flag of `ossmount mount`.
func defaultOf(t *testing.T, flag string) time.Duration {
	t.Helper()
	out, err := exec.Command("go", "run", "../cmd/ossmount", "mount", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)--` + flag + ` duration .*\(default (\S+)\)$`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no default of --%s in\n%s", flag, out)
	}
	d, err := time.ParseDuration(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The example has nothing but what mount knows.
func TestExampleNamesFlagsOfMount(t *testing.T) {
	help, err := exec.Command("go", "run", "../cmd/ossmount", "mount", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	keys := regexp.MustCompile(`(?m)^([^#\s:]+):`).FindAllStringSubmatch(read(t, "systemd/example.yaml"), -1)
	if len(keys) < 3 {
		t.Fatalf("the example has the keys %q only", keys)
	}
	for _, k := range keys {
		if k[1] != "source" && k[1] != "mountpoint" && !strings.Contains(string(help), " --"+k[1]+" ") {
			t.Errorf("%s is no flag of mount", k[1])
		}
	}
}

// A mount whose work is left for the next one has not failed, and is not started again
// for that.
func TestUnitsKnowTheExitCodes(t *testing.T) {
	for _, path := range []string{unit, userUnit} {
		has := settings(t, path)
		for name, want := range map[string]string{"Type": "notify", "SuccessExitStatus": "3 4", "RestartPreventExitStatus": "2 3 4", "Restart": "on-failure"} {
			if has[name] != want {
				t.Errorf("%s: %s=%s, want %s", path, name, has[name], want)
			}
		}
	}
}
