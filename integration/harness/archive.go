package harness

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// witnessAttr is the one extended attribute of a cache directory.
const witnessAttr = "user.ossmount.witness"

const paxWitness = "SCHILY.xattr." + witnessAttr

// Pack writes dir into a compressed tar file, with modes, times to the nanosecond and
// the witnesses of contents. Sockets are left out.
func Pack(dir, file string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir || d.Type() == fs.ModeSocket {
			return err
		}
		return packOne(t, dir, path, d)
	})
	return errors.Join(err, t.Close(), z.Close())
}

func packOne(t *tar.Writer, dir, path string, d fs.DirEntry) error {
	st, err := d.Info()
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(st, "")
	if err != nil {
		return err
	}
	if h.Name, err = filepath.Rel(dir, path); err != nil {
		return err
	}
	h.Uid, h.Gid, h.Uname, h.Gname, h.AccessTime, h.ChangeTime = 0, 0, "", "", time.Time{}, time.Time{}
	h.Format = tar.FormatPAX
	buf := make([]byte, 4096)
	if n, err := unix.Lgetxattr(path, witnessAttr, buf); err == nil {
		h.PAXRecords = map[string]string{paxWitness: string(buf[:n])}
	}
	if err := t.WriteHeader(h); err != nil || !st.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(t, f)
	return err
}

// Unpack makes in dir, which is new, what Pack has written.
func Unpack(file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("%s: %q leads out of it", file, h.Name)
		}
		if err := unpackOne(t, h, filepath.Join(dir, h.Name)); err != nil {
			return err
		}
	}
}

func unpackOne(t *tar.Reader, h *tar.Header, path string) error {
	if h.Typeflag == tar.TypeDir {
		return os.Mkdir(path, h.FileInfo().Mode().Perm())
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, h.FileInfo().Mode().Perm())
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, t); err != nil {
		return err
	}
	if w := h.PAXRecords[paxWitness]; w != "" {
		if err := unix.Fsetxattr(int(f.Fd()), witnessAttr, []byte(w), 0); err != nil {
			return fmt.Errorf("witness of %s: %w", path, err)
		}
	}
	return SetMtime(path, h.ModTime)
}
