package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// patience is how long anything may take.
const patience = 10 * time.Minute

// wire is the bandwidth in lines that end when a command returns, in bytes per second.
const wire = 100_000_000

// site is where a group is measured: a server, a mount, and the places of the
// yardsticks, all new, in one directory of one disk.
type site struct {
	b      *bench
	dir    string
	server *harness.Server
	m      *harness.Mount
	bare   string         // a plain directory
	parts  []func() error // to be closed, the last first
}

// at makes a site, runs f there, and closes it.
func (b *bench) at(name string, flags []string, f func(*site)) {
	s := &site{b: b, dir: filepath.Join(b.dir, name)}
	s.bare = filepath.Join(s.dir, "bare")
	s.server = &harness.Server{Bin: b.bin, Dir: filepath.Join(s.dir, "objects")}
	s.m = &harness.Mount{Bin: b.bin, Source: "oss://" + harness.Bucket, Point: filepath.Join(s.dir, "mnt"), Cache: filepath.Join(s.dir, "cache")}
	err := attempt(func() {
		for _, dir := range []string{s.m.Point, s.bare} {
			must(os.MkdirAll(dir, 0o755))
		}
		must(s.server.Start(b.ctx))
		s.parts = append(s.parts, s.server.Stop)
		s.m.Flags = append([]string{"--endpoint=" + s.server.URL, "--region=" + harness.Region}, flags...)
		s.parts = append(s.parts, s.m.Destroy)
		must(s.m.Start(b.ctx))
		f(s)
	})
	if err != nil && s.m.P != nil {
		err = fmt.Errorf("%w\n%s", err, s.m.P.Err.Tail(5))
	}
	must(errors.Join(err, s.close()))
}

// close ends what the site has started, and gives the room of big files back.
func (s *site) close() (err error) {
	for i := len(s.parts) - 1; i >= 0; i-- {
		err = errors.Join(err, s.parts[i]())
	}
	if err != nil {
		return err
	}
	return filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err == nil && st.Size() > 2*MiB {
			err = os.Remove(path)
		}
		return err
	})
}

// loopback mounts go-fuse's loopback, and returns the mount point.
func (s *site) loopback(options string) string {
	dir, point := filepath.Join(s.dir, "looped"), filepath.Join(s.dir, "loop")
	must(errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(point, 0o755)))
	p, err := harness.Start([]string{roleEnv + "=loopback"}, s.b.self, dir, point, options)
	must(err)
	s.parts = append(s.parts, func() error { return errors.Join(p.Kill(), harness.Detach(point)) })
	_, err = p.Out.Line(s.b.ctx, "mounted ")
	must(err)
	return point
}

// compare measures a line and its yardstick by turns, and begins with the other in
// each round; after are called when a round is over.
func (s *site) compare(name string, ours, yardstick func(i int) cost, after ...func()) {
	for i := range s.b.rounds {
		must(s.b.ctx.Err())
		var o, y cost
		if i%2 == 0 {
			o = ours(i)
			y = yardstick(i)
		} else {
			y = yardstick(i)
			o = ours(i)
		}
		add(name, o, y)
		for _, f := range after {
			f()
		}
	}
}

// cost measures f: its time, and what daemon and server spend in it. Nothing that was
// written before is written back meanwhile.
func (s *site) cost(f func()) cost {
	return s.costUntil(func() time.Time { f(); return time.Now() })
}

// costUntil is cost of work that was over at the time that f returns.
func (s *site) costUntil(f func() time.Time) cost {
	unix.Sync()
	must(s.server.Reset())
	daemon, server := processor(s.m.P), processor(s.server.P)
	start := time.Now()
	c := cost{Value: f().Sub(start).Seconds()}
	c.Daemon, c.Server = processor(s.m.P)-daemon, processor(s.server.P)-server
	counts, err := s.server.Counts()
	must(err)
	c.Requests = counts.Requests
	return c
}

// processor is the time that the process has had, in seconds.
func processor(p *harness.Process) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	must(err)
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	const ticks = 100 // per second, on every architecture that Go knows
	return (user + system) / ticks
}

// command runs a program that must succeed.
func (s *site) command(name string, args ...string) {
	r, err := harness.Run(s.b.ctx, []string{"LC_ALL=C", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null"}, name, args...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("%s %v: exit %d: %.500s", name, args, r.Code, r.Err)
	}
	must(err)
}

// sdk runs a client of its own, and returns its time and what else it cost.
func (s *site) sdk(role string, args ...string) (cost, told) {
	var t told
	c := s.cost(func() {
		r, err := harness.Run(s.b.ctx, []string{roleEnv + "=" + role}, s.b.self, append([]string{s.server.URL}, args...)...)
		if err == nil && r.Code != 0 {
			err = fmt.Errorf("%s: %v", role, r)
		}
		must(err)
		must(json.Unmarshal([]byte(r.Out), &t))
	})
	c.Value = t.Seconds
	return c, t
}

// limited measures a command on a wire as it would be, and waits then until all is on
// OSS.
func (s *site) limited(f func()) cost {
	must(s.server.Bandwidth(wire))
	c := s.cost(f)
	must(s.server.Bandwidth(0))
	s.settle()
	return c
}

// settle waits until everything is on OSS.
func (s *site) settle() {
	r, err := s.m.Wait(s.m.Point, patience)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("wait: %v", r)
	}
	must(err)
}

// onOSS measures f until the last object that it made was published, by the log of the
// server. At the end everything is settled.
func (s *site) onOSS(f func()) cost {
	return s.costUntil(func() time.Time {
		f()
		s.settle()
		log, err := s.server.Log()
		must(err)
		var last time.Time
		for _, r := range log {
			end := r.Time.Add(time.Duration(r.DurationMS * float64(time.Millisecond)))
			if (r.Op == "PutObject" || r.Op == "CompleteMultipartUpload") && r.Status == 200 && end.After(last) {
				last = end
			}
		}
		if last.IsZero() {
			must(errors.New("nothing was published"))
		}
		return last
	})
}

// peak forgets the most memory that the daemon ever had, runs f, and returns what it
// was since, in MiB.
func (s *site) peak(f func()) float64 {
	must(os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.m.P.PID()), []byte("5"), 0))
	f()
	_, peak, err := s.m.Memory()
	must(err)
	return float64(peak) / MiB
}

// in is a path in the mount.
func (s *site) in(name string, i int) string { return filepath.Join(s.m.Point, numbered(name, i)) }

func numbered(name string, i int) string { return name + "-" + strconv.Itoa(i) }

// start starts the daemon again, and measures it until it serves.
func (s *site) start() cost {
	unix.Sync()
	must(s.server.Reset())
	server, start := processor(s.server.P), time.Now()
	must(s.m.Start(s.b.ctx))
	c := cost{Value: time.Since(start).Seconds(), Daemon: processor(s.m.P), Server: processor(s.server.P) - server}
	counts, err := s.server.Counts()
	must(err)
	c.Requests = counts.Requests
	return c
}

// remount makes the mount forget what it has listed: objects were made without it, or
// it shall know only what it keeps.
func (s *site) remount() {
	s.umount()
	must(s.m.Start(s.b.ctx))
}

// umount ends the daemon in peace, and leaves what is pending.
func (s *site) umount() {
	r, err := s.m.Umount(s.b.ctx, "--drain=0s")
	if err == nil && r.Code != 0 && r.Code != 3 {
		err = fmt.Errorf("umount: %v", r)
	}
	must(err)
}
