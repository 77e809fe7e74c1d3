package screen

import (
	"bytes"
	"strings"
	"testing"
)

func TestColumnsAreAlignedAndEmptyOnesLeftOut(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	table := Table{Header: []string{"NAME", "NOTHING", "SIZE"}, Right: []int{2}}
	table.Row("ä", "", "1 B")
	table.Row(Good.In("longer"), "", "100 B")
	var b bytes.Buffer
	if _, err := Writer(&b, nil).Write([]byte(table.String())); err != nil {
		t.Fatal(err)
	}
	if want := "NAME     SIZE\nä         1 B\nlonger  100 B\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	if name, line := table.Widths(0); name != 6 || line != 13 {
		t.Errorf("widths %d, %d", name, line)
	}
}

func TestABarIsAsFullAsWhatIsDone(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	for _, c := range []struct {
		done, all int64
		want      string
	}{
		{0, 10, "...."}, {5, 10, "##.."}, {9, 10, "###."}, {10, 10, "####"}, {20, 10, "####"}, {-1, 10, "...."}, {1, 0, "...."}, {1 << 61, 1 << 62, "##.."},
	} {
		if got := Bar(c.done, c.all, 4); got != c.want {
			t.Errorf("%d of %d: %s, want %s", c.done, c.all, got, c.want)
		}
	}
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	if got := Bar(1, 2, 4); got != "██░░" {
		t.Error(got)
	}
}

func TestCutTextKeepsItsWidth(t *testing.T) {
	for width := range 12 {
		for _, s := range []string{"a/long/path/name", "日本語日本語日本語", Bad.In("red text here"), "x"} {
			if n := Width(Cut(s, width)); n > width {
				t.Errorf("%q in %d: %d", s, width, n)
			}
			if n := Width(CutLeft(s, width)); width > 0 && n > width {
				t.Errorf("%q in %d from the left: %d", s, width, n)
			}
		}
	}
	if got := CutLeft("a/long/path/name", 8); !strings.HasSuffix(got, "th/name") {
		t.Error(got)
	}
}
