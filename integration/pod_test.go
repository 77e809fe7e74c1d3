package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/ossmount/ossmount/integration/harness"
	"github.com/ossmount/ossmount/integration/harness/manifest"
)

// What deploy/kubernetes says, played without a cluster: the test does what the kubelet
// does, the kernel what it does on a node. Commands, arguments, probes, volumes, users
// and rights are read from the manifests. What an overlay would change is changed here,
// too: the bucket, the credentials, and the port, which is not that of the pod but of
// the machine.

// pod is one pod of the manifest on its node.
type pod struct {
	e      *env
	spec   *core.PodSpec
	config map[string]string // of the ConfigMap and the Secret
	node   string            // its emptyDirs, mounted as they are on a node: shared
	claims string            // its claims, which outlive it
	boxes  map[string]*box
}

// box is a container that runs, or has run.
type box struct {
	*harness.Process
	is  *core.Container
	env []string
}

// pod takes the pod of a kustomization.
func (e *env) pod(name string, spec *core.PodSpec) *pod {
	e.Helper()
	base, err := manifest.Render("../deploy/kubernetes/base")
	e.ok(err)
	p := &pod{e: e, spec: spec, config: map[string]string{}, node: e.path(name), claims: e.path("claims"), boxes: map[string]*box{}}
	maps.Copy(p.config, base.ConfigMaps[0].Data)
	for name := range p.config { // as in an overlay: nothing but what is there
		switch name {
		case "OSS_SOURCE":
			p.config[name] = "oss://" + harness.Bucket
		case "OSS_ENDPOINT":
			p.config[name] = e.server.URL
		case "OSS_REGION":
			p.config[name] = harness.Region
		}
	}
	p.config["OSS_ACCESS_KEY_ID"], p.config["OSS_ACCESS_KEY_SECRET"] = harness.KeyID, harness.Secret
	e.ok(os.MkdirAll(p.node, 0o755))
	e.ok(os.MkdirAll(p.claims, 0o755))
	e.ok(harness.Share(p.node))
	e.Cleanup(func() {
		for _, b := range p.boxes {
			e.check(b.Kill())
			if said := b.Err.String() + b.Out.String(); strings.Contains(said, harness.Secret) || strings.Contains(said, "please report it") || strings.Contains(said, "DATA RACE") {
				e.Errorf("container %s says:\n%s", b.is.Name, b.Err.Tail(100))
			} else if e.Failed() {
				e.Logf("container %s said last:\n%s%s", b.is.Name, b.Out.Tail(5), b.Err.Tail(30))
			}
		}
		e.check(harness.Detach(p.node))
	})
	return p
}

// sidecars of the base, as a pod.
func (e *env) basePod() *pod {
	e.Helper()
	base, err := manifest.Render("../deploy/kubernetes/base")
	e.ok(err)
	p := e.pod("node", &base.Deployments[0].Spec.Template.Spec)
	c, err := manifest.Container(p.spec, "ossmount")
	e.ok(err)
	addr, err := harness.FreePort()
	e.ok(err)
	_, text, _ := strings.Cut(addr, ":")
	port, err := strconv.Atoi(text)
	e.ok(err)
	i := slices.Index(c.Args, fmt.Sprintf("--http=0.0.0.0:%d", c.Ports[0].ContainerPort))
	if i < 0 {
		e.Fatalf("no --http at the port %d in %q", c.Ports[0].ContainerPort, c.Args)
	}
	c.Args[i], c.Ports[0].ContainerPort = "--http="+addr, int32(port)
	return p
}

// start does what the kubelet does: the init containers one after the other, a sidecar
// until its startup probe succeeds, then the containers.
func (p *pod) start() {
	p.e.Helper()
	for i := range p.spec.InitContainers {
		c := &p.spec.InitContainers[i]
		b := p.run(c)
		if c.RestartPolicy == nil {
			if code, err := b.Wait(patience); err != nil || code != 0 {
				p.e.Fatalf("init container %s: exit %d, %v\n%s", c.Name, code, err, b.Err.Tail(20))
			}
			continue
		}
		p.comesUp(b)
	}
	for i := range p.spec.Containers {
		p.run(&p.spec.Containers[i])
	}
}

// comesUp waits for the startup probe.
func (p *pod) comesUp(b *box) {
	p.e.Helper()
	p.e.poll("the startup probe of "+b.is.Name+" succeeds", patience, func() bool {
		if b.Ended() {
			p.e.Fatalf("container %s has ended\n%s", b.is.Name, b.Err.Tail(20))
		}
		return p.probe(b, b.is.StartupProbe) == nil
	})
}

// run starts a container.
func (p *pod) run(c *core.Container) *box {
	p.e.Helper()
	of := Container{Name: c.Name, Node: p.node, Strange: os.TempDir(), Volumes: []Volume{{From: filepath.Dir(binary), To: "/opt"}}} // the image
	set := map[string]string{"PATH": "/opt:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME": "pod"}
	if len(c.EnvFrom) > 0 {
		maps.Copy(set, p.config)
	}
	for name, value := range set {
		of.Env = append(of.Env, name+"="+value)
	}
	for _, arg := range slices.Concat(c.Command, c.Args) {
		of.Args = append(of.Args, regexp.MustCompile(`\$\((\w+)\)`).ReplaceAllStringFunc(arg, func(v string) string { return set[v[2:len(v)-1]] }))
	}
	for _, m := range c.VolumeMounts {
		v := Volume{From: p.volume(m.Name), To: m.MountPath}
		if m.MountPropagation != nil {
			v.Propagation = string(*m.MountPropagation)
		}
		of.Volumes = append(of.Volumes, v)
	}
	s := c.SecurityContext
	of.ReadOnlyRoot = s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem
	of.Privileged = s.Privileged != nil && *s.Privileged
	if s.RunAsUser != nil {
		of.UID, of.GID = int(*s.RunAsUser), int(*s.RunAsGroup)
	}
	text, err := json.Marshal(of)
	p.e.ok(err)
	self, err := os.Executable()
	p.e.ok(err)
	proc, err := harness.Start([]string{containerEnv + "=" + string(text)}, self)
	p.e.ok(err)
	b := &box{Process: proc, is: c, env: of.Env}
	if old := p.boxes[c.Name]; old != nil { // for the end of the test
		p.boxes[c.Name+strconv.Itoa(old.PID())] = old
	}
	p.boxes[c.Name] = b
	p.e.poll("container "+c.Name+" is what it shall be", patience, func() bool {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", b.PID()))
		return err != nil || exe != self || b.Ended()
	})
	return b
}

// volume is where a volume lies on the node.
func (p *pod) volume(name string) string {
	p.e.Helper()
	for _, v := range p.spec.Volumes {
		if v.Name != name {
			continue
		}
		dir := filepath.Join(p.node, name)
		if v.PersistentVolumeClaim != nil {
			dir = filepath.Join(p.claims, v.PersistentVolumeClaim.ClaimName)
		}
		p.e.ok(os.MkdirAll(dir, 0o777))
		return dir
	}
	p.e.Fatalf("there is no volume %s", name)
	return ""
}

// probe asks once, as the kubelet does.
func (p *pod) probe(b *box, probe *core.Probe) error {
	get := probe.HTTPGet
	for _, port := range b.is.Ports {
		if port.Name != get.Port.String() {
			continue
		}
		client := &http.Client{Timeout: max(time.Duration(probe.TimeoutSeconds), 1) * time.Second}
		defer client.CloseIdleConnections()
		resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port.ContainerPort, get.Path))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		if resp.StatusCode < 200 || resp.StatusCode >= 400 {
			return fmt.Errorf("%s: %s", resp.Status, text)
		}
		return nil
	}
	return fmt.Errorf("no port %s", get.Port.String())
}

// entered is a command that runs a command in a container that runs.
func (b *box) entered(argv ...string) []string {
	args := []string{"--target", strconv.Itoa(b.PID()), "--mount", "--", "env", "-i", "-C", "/"}
	return append(append(args, b.env...), argv...)
}

// exec runs a command in a container.
func (p *pod) exec(b *box, argv ...string) (harness.Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return harness.Run(ctx, nil, "nsenter", b.entered(argv...)...)
}

// asApp is what runs a command as the application's user.
func asApp(b *box, argv ...string) []string {
	s := b.is.SecurityContext
	return append([]string{"setpriv", "--reuid=" + strconv.FormatInt(*s.RunAsUser, 10), "--regid=" + strconv.FormatInt(*s.RunAsGroup, 10), "--clear-groups", "--no-new-privs"}, argv...)
}

// app runs a script beside the application, in its container and as its user.
func (p *pod) app(script string) string {
	p.e.Helper()
	b := p.boxes["app"]
	r, err := p.exec(b, asApp(b, "sh", "-euc", script)...)
	p.e.ok(err)
	if r.Code != 0 {
		p.e.Fatalf("in the application: %s: %v", script, r)
	}
	return r.Out
}

// end is what happens when the pod is deleted: the application ends, and beside it runs
// the preStop of the sidecar, which then gets SIGTERM. It returns the exit codes of
// preStop and sidecar.
func (p *pod) end() (preStop, code int) {
	p.e.Helper()
	grace := time.Duration(*p.spec.TerminationGracePeriodSeconds) * time.Second
	until := time.Now().Add(grace)
	side, app := p.boxes["ossmount"], p.boxes["app"]
	hook := make(chan int, 1)
	go func() {
		r, err := p.exec(side, side.is.Lifecycle.PreStop.Exec.Command...)
		if err != nil {
			p.e.Error(err)
		}
		hook <- r.Code
	}()
	app.Signal(syscall.SIGTERM)
	if code, err := app.Wait(time.Until(until)); err != nil || code != 0 {
		p.e.Errorf("the application: exit %d, %v", code, err)
	}
	preStop = <-hook
	if side.Ended() {
		p.e.Fatalf("the sidecar ended before the application\n%s", side.Err.Tail(20))
	}
	side.Signal(syscall.SIGTERM)
	code, err := side.Wait(time.Until(until))
	p.e.ok(err)
	return preStop, code
}

func TestPodLivesAsItsManifestSays(t *testing.T) {
	t.Parallel()
	e := setup(t)
	p := e.basePod()
	p.start()
	side := p.boxes["ossmount"]

	// The application's own command writes; so do others in its container.
	e.poll("the application has written", patience, func() bool {
		_, _, err := e.server.ObjectSum("hello")
		return err == nil
	})
	p.app(`
		cd /mnt/oss/data
		mkdir d && echo first >d/a && mv d/a d/b && echo second >>d/b
		test "$(cat d/b)" = "first
second"
		test "$(stat -c %u d/b)" = "$(id -u)"
	`)
	// The kubelet sees the mount from the node, through the same propagation.
	e.reads(filepath.Join(p.volume("oss"), "data/d/b"), "first\nsecond\n")

	// OSS is away: that is no reason to restart the sidecar, and the application goes on.
	e.ok(e.server.Kill())
	p.app(`head -c 3000000 /dev/zero >/mnt/oss/data/d/big`)
	if err := p.probe(side, side.is.LivenessProbe); err != nil {
		t.Errorf("the liveness probe fails while OSS is away: %v", err)
	}
	e.ok(e.server.Start(e.soon()))

	p.app(`echo last >/mnt/oss/data/last`)
	preStop, code := p.end()
	if preStop != 0 || code != 0 {
		t.Errorf("preStop exits with %d, the sidecar with %d", preStop, code)
	}
	e.object("d/b", "first\nsecond\n")
	e.object("last", "last\n")
	e.object("d/big", strings.Repeat("\x00", 3_000_000))
	if left, err := harness.Mounted(p.volume("oss")); err != nil || len(left) > 0 {
		t.Errorf("on the node are left: %q %v", left, err)
	}
}

// What the kernel allows when the sidecar dies: who holds something of the old mount
// gets errors, for ever; who asks by a path gets the new mount as soon as it is there,
// in the same process and the same namespace. Nothing that was closed is lost.
func TestSidecarIsRestartedWhileTheApplicationGoesOn(t *testing.T) {
	t.Parallel()
	e := setup(t)
	p := e.basePod()
	p.start()
	app, old := p.boxes["app"], p.boxes["ossmount"]
	p.app(`echo closed >/mnt/oss/data/closed`)

	// A shell of the application stands in the mount, with a file open.
	proc, in, out, err := harness.StartPiped(nil, "nsenter", app.entered(asApp(app, "sh", "-c", `
		cd /mnt/oss/data && exec 3>>open && echo begun >&3
		while read -r line; do eval "$line" 2>&1; echo "= $?"; done`)...)...)
	e.ok(err)
	t.Cleanup(func() { in.Close(); e.check(proc.Kill()) })
	heard := newTalk(in, out)
	says := func(line, want string, code int) {
		t.Helper()
		text, got, err := heard.say(line)
		if err != nil || got != code || !strings.Contains(text, want) {
			t.Fatalf("%s: %q, exit %d, %v; want %q, exit %d", line, text, got, err, want, code)
		}
	}
	says("cat closed", "closed", 0)

	e.ok(old.Kill())
	says("cat /mnt/oss/data/closed", "Transport endpoint is not connected", 1)
	e.poll("the liveness probe fails", patience, func() bool { return p.probe(old, old.is.LivenessProbe) != nil })

	p.comesUp(p.run(old.is))
	says("cat /mnt/oss/data/closed", "closed", 0) // by its path
	says("cat closed", "Transport endpoint is not connected", 1)
	// The kernel writes an open local file itself (--passthrough), daemon or not; what it
	// wrote is taken up when the file is closed.
	says("echo more >&3", "", 0)
	says("exec 3>&-; cd /mnt/oss/data && cat closed", "closed", 0)
	e.poll("what was written meanwhile is there", patience, func() bool {
		text, _, err := heard.say("cat open")
		e.ok(err)
		return text == "begun\nmore\n"
	})
	// It was interrupted; who writes and closes it again has it published.
	says("echo again >>open", "", 0)
	p.app(`echo "of the second" >/mnt/oss/data/second`)
	if app.Ended() {
		t.Error("the application has ended")
	}
	e.ok(in.Close())
	if code, err := proc.Wait(patience); err != nil || code != 0 {
		t.Errorf("the shell: exit %d, %v", code, err)
	}
	if preStop, code := p.end(); preStop != 0 || code != 0 {
		t.Errorf("preStop exits with %d, the sidecar with %d", preStop, code)
	}
	e.object("closed", "closed\n")
	e.object("second", "of the second\n")
	e.object("open", "begun\nmore\nagain\n")
}

// The node is lost with its pod, the claim is not: the job finishes what is on it, with
// no more rights than the manifest gives it.
func TestRecoveryJobFinishesWhatAPodHasLeft(t *testing.T) {
	t.Parallel()
	e := setup(t)
	p := e.basePod()
	p.start()
	e.ok(e.server.Kill())
	p.app(`cd /mnt/oss/data && mkdir left && for i in 1 2 3 4 5; do echo "$i" >left/$i; done && head -c 12000000 /dev/zero >left/big`)
	e.ok(p.boxes["ossmount"].Kill())
	e.ok(p.boxes["app"].Kill())
	e.ok(harness.Detach(p.node))
	e.ok(e.server.Start(e.soon()))
	if keys, err := e.server.Keys("left"); err != nil || len(keys) > 0 {
		t.Fatalf("there is nothing to recover: %q %v", keys, err)
	}

	all, err := manifest.Render("../deploy/kubernetes/recovery")
	e.ok(err)
	job := e.pod("recovery-node", &all.Jobs[0].Spec.Template.Spec)
	b := job.run(&job.spec.Containers[0])
	if code, err := b.Wait(patience); err != nil || code != 0 {
		t.Fatalf("the job: exit %d, %v\n%s", code, err, b.Err.Tail(20))
	}
	for i := 1; i <= 5; i++ {
		e.object(fmt.Sprintf("left/%d", i), fmt.Sprintf("%d\n", i))
	}
	e.object("left/big", strings.Repeat("\x00", 12_000_000))
}

// talk is a conversation with a shell that ends each answer with "= " and a code.
type talk struct {
	in  io.Writer
	out chan string
}

func newTalk(in io.Writer, out io.Reader) *talk {
	k := &talk{in, make(chan string, 100)}
	go func() {
		defer close(k.out)
		var text strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := out.Read(buf)
			text.Write(buf[:n])
			for {
				line, rest, whole := strings.Cut(text.String(), "\n")
				if !whole {
					break
				}
				text.Reset()
				text.WriteString(rest)
				k.out <- line
			}
			if err != nil {
				return
			}
		}
	}()
	return k
}

// say returns what the shell prints for a line, and its exit code.
func (k *talk) say(line string) (text string, code int, err error) {
	if _, err := io.WriteString(k.in, line+"\n"); err != nil {
		return "", 0, err
	}
	for {
		select {
		case s, ok := <-k.out:
			if !ok {
				return text, 0, errors.New("the shell has ended")
			}
			if n, is := strings.CutPrefix(s, "= "); is {
				code, err = strconv.Atoi(n)
				return text, code, err
			}
			text += s + "\n"
		case <-time.After(patience):
			return text, 0, errors.New("no answer")
		}
	}
}
