package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// maxSocketPath is the longest path that a Unix socket may have (unix(7)).
const maxSocketPath = 107

// ControlSocket returns where the daemon that has the cache directory dir
// listens: in the directory, or, where that path is too long for a socket, in
// a directory of the user's own under the temporary one, named by the path.
func ControlSocket(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if p := filepath.Join(abs, "control.sock"); len(p) <= maxSocketPath {
		return p, nil
	}
	sum := sha256.Sum256([]byte(abs))
	own := filepath.Join(os.TempDir(), fmt.Sprintf("ossmount-%d", os.Getuid()))
	if err := os.MkdirAll(own, 0o700); err != nil {
		return "", err
	}
	st, err := os.Lstat(own)
	if err != nil || !st.IsDir() || st.Mode().Perm() != 0o700 {
		return "", fmt.Errorf("%s is not a directory for this user alone: remove it, or use a shorter --cache-dir", own)
	}
	return filepath.Join(own, hex.EncodeToString(sum[:8])+".sock"), nil
}
