package fs

import (
	"context"
	"syscall"
)

// Attributes that tell about a file; nothing else is kept here yet.
const (
	xattrState   = "user.ossmount.state"   // clean, pending, uploading 3/12, parked: reason, interrupted
	xattrControl = "user.ossmount.control" // of the root: the path of the control socket
)

func (n *node) xattr(name string) (string, error) {
	switch {
	case name == xattrControl && n.fs.root == n && n.fs.o.ControlSocket != "":
		return n.fs.o.ControlSocket, nil
	case name == xattrState:
		if x := n.openFile(); x != nil && x.writing() {
			return "open", nil
		}
		return n.fs.q.State(n.key())
	}
	return "", fail(syscall.ENODATA) // security.* and the like: from memory, never by a request
}

// Getxattr implements getxattr.
func (n *node) Getxattr(_ context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	v, err := n.xattr(name)
	if err != nil {
		return 0, n.fs.errno("getxattr", err)
	}
	return give(v, dest)
}

// Listxattr implements listxattr: what is made up is not listed, so that cp -a
// and rsync -X do not try to keep it.
func (n *node) Listxattr(_ context.Context, dest []byte) (uint32, syscall.Errno) {
	return give("", dest)
}

// Setxattr and Removexattr: nothing is kept yet.
func (n *node) Setxattr(context.Context, string, []byte, uint32) syscall.Errno {
	return syscall.ENOTSUP
}

// Removexattr implements removexattr.
func (n *node) Removexattr(context.Context, string) syscall.Errno { return syscall.ENODATA }

func give(v string, dest []byte) (uint32, syscall.Errno) {
	if len(dest) < len(v) {
		return uint32(len(v)), syscall.ERANGE
	}
	return uint32(copy(dest, v)), 0
}
