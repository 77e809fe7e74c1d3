package object

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Attr are the attributes of a file as POSIX has them, kept in user metadata.
type Attr struct {
	Mode  uint32 `json:"m"`           // st_mode: type and permission bits
	UID   uint32 `json:"u,omitempty"` //
	GID   uint32 `json:"g,omitempty"` //
	Mtime int64  `json:"t"`           // Unix nanoseconds
	Rdev  uint32 `json:"r,omitempty"` // of a device node

	// Known here only, never published; 0: as Mtime.
	Ctime int64 `json:"ct,omitempty"` // Unix nanoseconds
	Atime int64 `json:"at,omitempty"` // Unix nanoseconds, as it was set; reading does not move it
}

// Published returns what of a goes to OSS.
func (a Attr) Published() Attr {
	a.Ctime, a.Atime = 0, 0
	return a
}

// Modified says that the bytes changed at the time t (Unix nanoseconds).
func (a *Attr) Modified(t int64) {
	if a.Atime == 0 {
		a.Atime = a.Mtime
	}
	a.Mtime, a.Ctime = t, t
}

// Types of files in Attr.Mode (inode(7)).
const (
	TypeMask uint32 = 0o170000
	TypeFile uint32 = 0o100000
	TypeDir  uint32 = 0o040000
	TypeLink uint32 = 0o120000
)

// TagMeta is the user metadata name of the tag that marks what we published
// (R7).
const TagMeta = "ossmount"

// Names of the attributes in user metadata, those of ossfs 1.x and rclone.
const (
	metaMode  = "mode"
	metaUID   = "uid"
	metaGID   = "gid"
	metaMtime = "mtime"
	metaRdev  = "rdev"
)

// AddTo writes the attributes into user metadata: decimal numbers, mtime as
// seconds, a point and nine digits.
func (a Attr) AddTo(m Meta) {
	m[metaMode] = strconv.FormatUint(uint64(a.Mode), 10)
	m[metaUID] = strconv.FormatUint(uint64(a.UID), 10)
	m[metaGID] = strconv.FormatUint(uint64(a.GID), 10)
	m[metaMtime] = FormatTime(a.Mtime)
	if a.Rdev != 0 {
		m[metaRdev] = strconv.FormatUint(uint64(a.Rdev), 10)
	}
}

// ReadAttr takes the attributes out of user metadata; what is absent or
// unreadable stays as def has it. The type bits of mode count only where they
// are a type.
func ReadAttr(m Meta, def Attr) Attr {
	a := def
	if len(m) == 0 {
		return a
	}
	if v, ok := number(m[metaMode]); ok {
		if a.Mode = v; v&TypeMask == 0 {
			a.Mode |= def.Mode & TypeMask
		}
	}
	if v, ok := number(m[metaUID]); ok {
		a.UID = v
	}
	if v, ok := number(m[metaGID]); ok {
		a.GID = v
	}
	if t, ok := ParseTime(m[metaMtime]); ok {
		a.Mtime = t
	}
	if v, ok := number(m[metaRdev]); ok {
		a.Rdev = v
	}
	return a
}

func number(s string) (uint32, bool) {
	if s == "" { // mostly; the error of ParseUint is made anew each time
		return 0, false
	}
	v, err := strconv.ParseUint(s, 10, 32)
	return uint32(v), err == nil
}

// KeepTime writes t as the time of modification, unless m has one.
func (m Meta) KeepTime(t time.Time) {
	if _, ok := ParseTime(m[metaMtime]); !ok && !t.IsZero() {
		m[metaMtime] = FormatTime(t.UnixNano())
	}
}

// Foreign returns the user metadata that is not ours, or nil.
func (m Meta) Foreign() Meta {
	var out Meta
	for k, v := range m {
		switch k {
		case metaMode, metaUID, metaGID, metaMtime, metaRdev, TagMeta:
			continue
		}
		if out == nil {
			out = Meta{}
		}
		out[k] = v
	}
	return out
}

// FormatTime writes Unix nanoseconds as seconds, a point and nine digits.
func FormatTime(ns int64) string {
	sec := ns / 1e9
	frac := ns % 1e9
	if frac < 0 { // before 1970: the fraction counts upwards from the second
		sec--
		frac += 1e9
	}
	return fmt.Sprintf("%d.%09d", sec, frac)
}

// ParseTime reads what FormatTime writes, with any number of digits after the
// point or none.
func ParseTime(s string) (ns int64, ok bool) {
	if s == "" {
		return 0, false
	}
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || sec > 1<<33 || sec < -(1<<33) {
		return 0, false
	}
	if len(frac) > 9 {
		frac = frac[:9]
	}
	for len(frac) < 9 {
		frac += "0"
	}
	n, err := strconv.ParseUint(frac, 10, 32)
	if err != nil {
		return 0, false
	}
	return time.Unix(sec, int64(n)).UnixNano(), true
}
