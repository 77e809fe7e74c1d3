package writeback

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/journal"
)

// A multipart upload that is broken off goes on where it was: the store counts
// the bytes that arrive.

const resumeText = "0123456789abcdefghijklmnopqrstuvwxyz" // 9 parts of 4 bytes

// answer gives the waiting requests of op, one after another, the fate f, until
// n have had it; other requests are answered meanwhile.
func (m *model) answer(op string, n int, f fate) {
	for range 1000 {
		synctest.Wait()
		if n == 0 {
			return
		}
		calls := m.store.calls()
		if len(calls) == 0 && !m.disk.pass() {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		for _, c := range calls {
			switch {
			case c.op != op || c.body:
				c.decide <- fateAnswered
			case n > 0:
				n--
				c.decide <- f
			default:
				continue
			}
			break
		}
	}
	m.fail("%d requests %s have not come", n, op)
}

// restart kills the process and starts it again.
func (m *model) restart() {
	m.kill()
	m.start()
}

func (m *model) storeHas(key, text string) {
	if o, ok := m.store.get(key); !ok || string(o.data) != text {
		m.fail("the store has %q under %q, want %q", o.data, key, text)
	}
}

func TestResume(t *testing.T) {
	for _, c := range []struct {
		name  string
		story func(m *model)
	}{
		{"killed in the middle, only the parts in flight are sent again", func(m *model) {
			m.answer("UploadPart", 5, fateAnswered)
			m.restart()
			m.drain()
			m.storeHas("a", resumeText)
			// What was in flight at the kill may arrive late, twice in all.
			if most := int64(len(resumeText) + 4*4); m.store.sent > most {
				m.fail("%d bytes were sent, at most %d may be", m.store.sent, most)
			}
			if m.store.counts["Initiate"] != 1 {
				m.fail("%d uploads were begun", m.store.counts["Initiate"])
			}
		}},
		{"a lost answer to Complete is settled by a HEAD", func(m *model) {
			m.answer("Complete", 1, fateLost)
			m.restart()
			m.drain()
			m.storeHas("a", resumeText)
			if m.store.sent != int64(len(resumeText)) || m.store.counts["Initiate"] != 1 {
				m.fail("sent %d bytes in %d uploads", m.store.sent, m.store.counts["Initiate"])
			}
		}},
		{"an aborted upload begins anew", func(m *model) {
			m.answer("UploadPart", 3, fateAnswered)
			m.kill()
			clear(m.store.uploads)
			m.start()
			m.drain()
			m.storeHas("a", resumeText)
			if m.store.counts["Initiate"] != 2 {
				m.fail("%d uploads were begun", m.store.counts["Initiate"])
			}
		}},
		{"an upload that was asked for and never noted is aborted", func(m *model) { // covers H26
			m.answer("Initiate", 1, fateLost)
			m.restart()
			m.drain() // looks for uploads that are left
			m.storeHas("a", resumeText)
			if m.store.counts["Initiate"] != 2 || m.store.counts["Abort"] != 1 {
				m.fail("%v", m.store.counts)
			}
		}},
		{"a part that was rewritten is sent again under the same upload", func(m *model) {
			m.answer("UploadPart", 6, fateAnswered)
			w := m.openWrite(m.files["a"])
			m.write(w, "XY", true)
			m.closeWriter(w)
			m.drain()
			m.storeHas("a", "XY"+resumeText[2:])
			if most := int64(len(resumeText) + 3*4); m.store.sent > most || m.store.counts["Initiate"] != 1 {
				m.fail("sent %d bytes in %d uploads", m.store.sent, m.store.counts["Initiate"])
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := playStory(t, 0, rules{}, false, func(m *model) {
				m.limits.maxCopy = 1 << 30
				m.closeWriter(m.create("a", resumeText))
				c.story(m)
			})
			if found != "" {
				t.Error(found)
			}
		})
	}
}

// A part that OSS holds counts only if it is known to have the local bytes. covers
// H27 covers H27
func TestSameBytes(t *testing.T) {
	const text = "some bytes"
	right := memPart{[]byte(text), etagOf([]byte(text))}.part(1)
	for _, c := range []struct {
		name string
		part journal.Part
		same bool
	}{
		{"the CRC64 is right", journal.Part{CRC64: right.CRC64, HasCRC: true, ETag: "of KMS"}, true},
		{"the CRC64 is wrong", journal.Part{CRC64: right.CRC64 + 1, HasCRC: true, ETag: right.ETag}, false},
		{"no CRC64, and the ETag is the MD5", journal.Part{ETag: strings.ToLower(right.ETag)}, true},
		{"no CRC64, and the ETag is another MD5", journal.Part{ETag: etagOf([]byte("other bytes"))}, false},
		{"no CRC64, and the ETag is no MD5", journal.Part{ETag: "of KMS"}, false},
	} {
		s := &source{t: &transfer{}, x: strings.NewReader("<" + text + ">"), here: extent.Of(0, math.MaxInt64)}
		if same, err := s.sameBytes(span{off: 1, n: int64(len(text))}, c.part); err != nil || same != c.same {
			t.Errorf("%s: same %t, %v", c.name, same, err)
		}
	}
}
