package integration

import (
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
)

const holderEnv = "OSSMOUNT_TEST_HOLDER"

// Holder is another process that has one file open. Each child that a process begins
// closes its copies of all that the process has open, and each close is a FLUSH: a
// file that no other test may close by its children is held open by a Holder.
type Holder struct{ f *os.File }

// HolderOpen says which file, and how.
type HolderOpen struct {
	Path  string
	Flags int
}

// HolderAt says which bytes are written, or how many are read.
type HolderAt struct {
	Off  int64
	Data []byte
	Size int
}

func (h *Holder) Open(o HolderOpen, _ *bool) (err error) {
	h.f, err = os.OpenFile(o.Path, o.Flags, 0o644)
	return err
}

func (h *Holder) Write(at HolderAt, n *int) (err error) {
	*n, err = h.f.WriteAt(at.Data, at.Off)
	return err
}

func (h *Holder) Read(at HolderAt, data *[]byte) error {
	b := make([]byte, at.Size)
	n, err := h.f.ReadAt(b, at.Off)
	*data = b[:n]
	return err
}

func (h *Holder) Truncate(at HolderAt, _ *bool) error { return h.f.Truncate(at.Off) }

func (h *Holder) Close(bool, *bool) error { return h.f.Close() }

// pipes are what the two processes talk through.
type pipes struct {
	io.Reader
	io.WriteCloser
}

func holderMain() {
	server := rpc.NewServer()
	if err := server.Register(&Holder{}); err != nil {
		fmt.Fprintln(os.Stderr, "holder:", err)
		os.Exit(1)
	}
	server.ServeConn(pipes{os.Stdin, os.Stdout})
}

// held is a file that a Holder has open.
type held struct {
	e    *env
	call *rpc.Client
	cmd  *exec.Cmd
}

// holdOpen opens path in a process of its own, which ends with the test at the latest.
func (e *env) holdOpen(path string, flags int) *held {
	e.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	e.ok(err)
	out, err := cmd.StdoutPipe()
	e.ok(err)
	e.ok(cmd.Start())
	h := &held{e: e, call: rpc.NewClient(pipes{out, in}), cmd: cmd}
	e.Cleanup(h.end) // before the mounts are looked at
	h.do("Open", HolderOpen{path, flags}, new(bool))
	return h
}

func (h *held) do(what string, args, answer any) {
	h.e.Helper()
	h.e.ok(h.call.Call("Holder."+what, args, answer))
}

func (h *held) writeAt(data string, off int64) {
	h.e.Helper()
	h.do("Write", HolderAt{Off: off, Data: []byte(data)}, new(int))
}

func (h *held) readAt(size int, off int64) string {
	h.e.Helper()
	var data []byte
	h.do("Read", HolderAt{Off: off, Size: size}, &data)
	return string(data)
}

func (h *held) truncate(size int64) {
	h.e.Helper()
	h.do("Truncate", HolderAt{Off: size}, new(bool))
}

// close closes the file; an error of it ends the test.
func (h *held) close() {
	h.e.Helper()
	h.do("Close", false, new(bool))
	h.end()
}

// end ends the process.
func (h *held) end() {
	_ = h.call.Close()
	_ = h.cmd.Wait()
}
