package writeback

import (
	"os"
	"strings"
	"testing"
	"time"
)

// damage changes the byte at off in the content of key as a bad disk does: the
// file looks as before. It returns what takes that back.
func (m *model) damage(key string, off int64) (mend func()) {
	path := m.path(m.row(key).Content)
	st, err := os.Stat(path)
	m.must(err)
	flip := func() {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		m.must(err)
		defer f.Close()
		b := make([]byte, 1)
		_, err = f.ReadAt(b, off)
		m.must(err)
		_, err = f.WriteAt([]byte{b[0] ^ 1}, off)
		m.must(err)
		m.must(os.Chtimes(path, st.ModTime(), st.ModTime()))
	}
	flip()
	return flip
}

// serve answers whatever is asked until nothing is.
func (m *model) serve() {
	m.disk.setSlow(false)
	for range 500 {
		m.disk.pass()
		for _, c := range m.store.calls() {
			c.decide <- fateAnswered
		}
		time.Sleep(time.Second)
		if m.rest() {
			return
		}
	}
	m.fail("it does not come to rest")
}

func (m *model) isDamaged(key string) {
	if r := m.row(key); r == nil || !strings.HasPrefix(r.Parked, damagedPrefix) {
		m.fail("%q is not parked as damaged: %+v", key, r)
	}
}

// retry forgets that the row of key is parked.
func (m *model) retry(key string) {
	r := *m.row(key)
	r.Parked = ""
	m.change(func(c *Change) error { return c.Put(&r) }, m.files[key])
}

// A bit that changes on the cache disk after the file was closed never reaches an
// object; when the right bytes are back they are sent.
func TestDamagedBytesAreNeverPublished(t *testing.T) {
	for _, c := range []struct {
		name, text string
		story      func(m *model)
	}{
		{"in a small file", "bytes", func(m *model) {
			mend := m.damage("a", 2)
			m.serve()
			m.isDamaged("a")
			if _, ok := m.store.get("a"); ok {
				m.fail("it is there")
			}
			m.retry("a")
			m.serve()
			m.isDamaged("a")
			mend()
			m.retry("a")
		}},
		{"found after a crash, and renamed", "bytes", func(m *model) {
			mend := m.damage("a", 0)
			m.rename("a", "b")
			m.restart()
			m.serve()
			m.isDamaged("b")
			mend()
			m.retry("b")
		}},
		{"of the next version", "bytes", func(m *model) {
			m.serve()
			w := m.openWrite(m.files["a"])
			m.rewrite(w, "other")
			m.closeWriter(w)
			if !m.row("a").HasCRC {
				m.fail("the model has forgotten the sum")
			}
			mend := m.damage("a", 4)
			m.serve()
			m.isDamaged("a")
			m.storeHas("a", "bytes")
			mend()
			m.retry("a")
		}},
		{"in a part of a big file", resumeText, func(m *model) {
			mend := m.damage("a", 17)
			m.serve()
			m.isDamaged("a")
			if _, ok := m.store.get("a"); ok || len(m.store.uploads) > 0 {
				m.fail("it is there, or parts of it are")
			}
			mend()
			m.retry("a")
		}},
		{"in a part that OSS has", resumeText, func(m *model) {
			m.answer("UploadPart", 5, fateAnswered)
			mend := m.damage("a", 0)
			m.serve()
			m.storeHas("a", resumeText)
			mend() // what readers see is another matter
		}},
		{"changed here and there since, its sum being unknown", "bytes", func(m *model) {
			mend := m.damage("a", 2)
			m.serve()
			m.isDamaged("a")
			was := *m.row("a")
			r := was
			r.Parked = ""
			r.ForgetSum()
			m.change(func(c *Change) error { return c.Put(&r) }, m.files["a"])
			m.isDamaged("a")
			mend()
			was.Parked = ""
			m.change(func(c *Change) error { return c.Put(&was) }, m.files["a"])
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := playStory(t, 0, rules{}, false, func(m *model) {
				m.closeWriter(m.create("a", c.text))
				if !m.row("a").HasCRC {
					m.fail("the model has forgotten the sum")
				}
				c.story(m)
			})
			if found != "" {
				t.Error(found)
			}
		})
	}
}
