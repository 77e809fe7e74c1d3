package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A thread that ends takes no process with it: tests lock some to have another user,
// and those end with their goroutine.
func TestProcessesOutliveTheThreadThatAskedForThem(t *testing.T) {
	threads := make(chan int)
	var p *Process
	var in interface{ Write([]byte) (int, error) }
	var out *bufio.Reader
	var ask func()
	ask = func() {
		runtime.LockOSThread()            // and it ends with this goroutine,
		if unix.Gettid() == os.Getpid() { // unless it is the first
			go ask()
			return
		}
		process, stdin, stdout, err := StartPiped(nil, "cat")
		if err != nil {
			t.Error(err)
		}
		p, in, out = process, stdin, bufio.NewReader(stdout)
		threads <- unix.Gettid()
	}
	go ask()
	thread := <-threads
	if p == nil {
		t.FailNow()
	}
	defer p.Kill()
	for end := time.Now().Add(time.Minute); ; runtime.Gosched() {
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread)); errors.Is(err, fs.ErrNotExist) {
			break
		} else if time.Now().After(end) {
			t.Fatal("the thread does not end")
		}
	}
	if _, err := in.Write([]byte("still here\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := out.ReadString('\n'); line != "still here\n" {
		t.Errorf("the process says %q, %v", line, err)
	}
}
