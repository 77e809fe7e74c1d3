package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/ossmount/ossmount/integration/harness/manifest"
)

// rendered is what was rendered, by directory; no test changes it.
var rendered = map[string]*manifest.Objects{}

func render(t *testing.T, dir string) *manifest.Objects {
	t.Helper()
	if o := rendered[dir]; o != nil {
		return o
	}
	o, err := manifest.Render(filepath.Join("kubernetes", dir))
	if err != nil {
		t.Fatal(err)
	}
	rendered[dir] = o
	return o
}

func container(t *testing.T, pod *core.PodSpec, name string) *core.Container {
	t.Helper()
	c, err := manifest.Container(pod, name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// flagOf is the value of a flag among arguments, "" if it is not there.
func flagOf(args []string, name string) string {
	for _, a := range args {
		if v, ok := strings.CutPrefix(a, "--"+name+"="); ok {
			return v
		}
	}
	return ""
}

func duration(t *testing.T, args []string, flag string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(flagOf(args, flag))
	if err != nil {
		t.Fatalf("--%s of %q: %v", flag, args, err)
	}
	return d
}

// pods are all that is deployed, by the directory of its kustomization.
func pods(t *testing.T) map[string]*core.PodSpec {
	t.Helper()
	return map[string]*core.PodSpec{
		"base":             &render(t, "base").Deployments[0].Spec.Template.Spec,
		"overlays/example": &render(t, "overlays/example").Deployments[0].Spec.Template.Spec,
		"recovery":         &render(t, "recovery").Jobs[0].Spec.Template.Spec,
	}
}

func TestWhatTheAPIDoesNotKnowIsRefused(t *testing.T) {
	for what, yaml := range map[string]string{
		`unknown field "storageClass"`: "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: a}\nspec: {storageClass: fast}\n",
		"ClusterRole is not expected":  "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: a}\n",
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": yaml} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := manifest.Render(dir); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want %q, got %v", what, err)
		}
	}
}

// What the API server would refuse, or nobody wants, and the types allow.
func TestPodsAreSound(t *testing.T) {
	for dir, pod := range pods(t) {
		if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
			t.Errorf("%s: the pod gets a token of the API", dir)
		}
		volumes := map[string]bool{}
		for _, v := range pod.Volumes {
			volumes[v.Name] = true
		}
		for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
			for _, m := range c.VolumeMounts {
				if !volumes[m.Name] {
					t.Errorf("%s: %s mounts %s, which is no volume", dir, c.Name, m.Name)
				}
			}
			s := c.SecurityContext
			if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
				t.Errorf("%s: the root of %s can be written", dir, c.Name)
			}
			privileged := s != nil && s.Privileged != nil && *s.Privileged
			if privileged != (c.Name == "ossmount") {
				t.Errorf("%s: %s is privileged: %v", dir, c.Name, privileged)
			}
			if !privileged && s != nil && (s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"})) {
				t.Errorf("%s: %s may have more than it needs", dir, c.Name)
			}
			if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
				t.Errorf("%s: %s does not say what it needs", dir, c.Name)
			}
		}
	}
}

// The kernel hands the mount on only along this way: from the sidecar to the node
// (Bidirectional), and from there to the application (HostToContainer).
func TestMountReachesTheApplication(t *testing.T) {
	for _, dir := range []string{"base", "overlays/example"} {
		pod := pods(t)[dir]
		side := container(t, pod, "ossmount")
		if side.RestartPolicy == nil || *side.RestartPolicy != core.ContainerRestartPolicyAlways {
			t.Errorf("%s: ossmount is no sidecar", dir)
		}
		for name, want := range map[string]core.MountPropagationMode{"ossmount": core.MountPropagationBidirectional, "app": core.MountPropagationHostToContainer} {
			m := volumeMount(t, container(t, pod, name), "oss")
			if m.MountPropagation == nil || *m.MountPropagation != want {
				t.Errorf("%s: %s mounts the volume with %v, want %s", dir, name, m.MountPropagation, want)
			}
			if m.SubPath != "" {
				t.Errorf("%s: %s mounts a subPath, which no mount reaches", dir, name)
			}
		}
		// Beneath the root of the volume, or a dead mount stops the next container.
		point, root := side.Args[2], volumeMount(t, side, "oss").MountPath
		if !strings.HasPrefix(point, root+"/") {
			t.Errorf("%s: it mounts on %s, which is not beneath %s", dir, point, root)
		}
		if made := container(t, pod, "mount-point").Command; made[len(made)-1] != point {
			t.Errorf("%s: %q does not make %s", dir, made, point)
		}
	}
}

func volumeMount(t *testing.T, c *core.Container, name string) core.VolumeMount {
	t.Helper()
	for _, m := range c.VolumeMounts {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("%s does not mount %s", c.Name, name)
	return core.VolumeMount{}
}

func TestPodHasTimeToDrain(t *testing.T) {
	for _, dir := range []string{"base", "overlays/example"} {
		pod := pods(t)[dir]
		side := container(t, pod, "ossmount")
		stop := side.Lifecycle.PreStop.Exec.Command
		need := duration(t, stop, "timeout") + duration(t, side.Args, "drain") + 30*time.Second
		if got := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second; got < need {
			t.Errorf("%s: the pod has %v to end: its preStop, its --drain and 30 s take %v", dir, got, need)
		}
		if stop[2] != side.Args[2] {
			t.Errorf("%s: preStop waits for %s, the mount is on %s", dir, stop[2], side.Args[2])
		}
	}
}

func TestProbesAskWhereTheSidecarAnswers(t *testing.T) {
	for _, dir := range []string{"base", "overlays/example"} {
		side := container(t, pods(t)[dir], "ossmount")
		if len(side.Ports) != 1 || flagOf(side.Args, "http") != "0.0.0.0:9100" || side.Ports[0].ContainerPort != 9100 {
			t.Errorf("%s: --http=%s, and the ports are %v", dir, flagOf(side.Args, "http"), side.Ports)
		}
		for what, p := range map[string]*core.Probe{"/readyz": side.StartupProbe, "/readyz ": side.ReadinessProbe, "/healthz": side.LivenessProbe} {
			if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != strings.TrimSpace(what) || p.HTTPGet.Port.String() != side.Ports[0].Name {
				t.Errorf("%s: a probe does not ask %s of the port %s: %v", dir, what, side.Ports[0].Name, p)
			}
		}
	}
}

// The job works on what the sidecar has left: the same claim, at the same place.
func TestRecoveryFindsTheCacheOfTheSidecar(t *testing.T) {
	all := pods(t)
	side, drain := container(t, all["base"], "ossmount"), container(t, all["recovery"], "drain")
	if a, b := flagOf(side.Args, "cache-dir"), flagOf(drain.Args, "cache-dir"); a != b || a == "" {
		t.Errorf("the sidecar has its cache in %q, the job looks in %q", a, b)
	}
	if a, b := volumeMount(t, side, "cache"), volumeMount(t, drain, "cache"); a.MountPath != b.MountPath {
		t.Errorf("the sidecar has the volume at %s, the job at %s", a.MountPath, b.MountPath)
	}
	claim := func(pod *core.PodSpec) string {
		for _, v := range pod.Volumes {
			if v.Name == "cache" && v.PersistentVolumeClaim != nil {
				return v.PersistentVolumeClaim.ClaimName
			}
		}
		return ""
	}
	claims := render(t, "base").Claims
	if a, b := claim(all["base"]), claim(all["recovery"]); a != b || len(claims) != 1 || claims[0].Name != a {
		t.Errorf("the sidecar has the claim %q, the job %q; there is %v", a, b, claims)
	}
}

func TestOverlayChangesWhatItSays(t *testing.T) {
	o := render(t, "overlays/example")
	pod := &o.Deployments[0].Spec.Template.Spec
	if image := container(t, pod, "ossmount").Image; image != "registry.example.com/ossmount:latest" {
		t.Errorf("the sidecar's image is %s", image)
	}
	if c := container(t, pod, "app"); c.Command[0] != "photos" || len(c.Args) > 0 {
		t.Errorf("the application is %q %q", c.Command, c.Args)
	}
	if got := o.ConfigMaps[0].Data; got["OSS_SOURCE"] != "oss://photos/2026" || got["OSS_REGION"] == "" {
		t.Errorf("the settings are %v", got)
	}
	if size := o.Claims[0].Spec.Resources.Requests.Storage().String(); size != "200Gi" {
		t.Errorf("the claim is for %s", size)
	}
	if len(o.NetworkPolicies) != 1 || o.Deployments[0].Namespace != "photos" || o.NetworkPolicies[0].Namespace != "photos" {
		t.Errorf("the namespace is not that of all: %v", o.NetworkPolicies)
	}
}
