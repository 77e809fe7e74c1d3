package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ossmount/ossmount/internal/private"
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
	if err := private.Dir(own); err != nil {
		return "", fmt.Errorf("control socket: %w; or use a shorter --cache-dir", err)
	}
	return filepath.Join(own, hex.EncodeToString(sum[:8])+".sock"), nil
}
