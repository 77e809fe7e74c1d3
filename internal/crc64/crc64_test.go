package crc64

import (
	"bytes"
	"fmt"
	"hash/crc64"
	"math/rand/v2"
	"os"
	"regexp"
	"testing"
)

// check is the sum of the nine digits in every catalogue of CRCs.
const check = 0x995dc9bbdf1939fa

func TestTheKnownSum(t *testing.T) {
	if got := Update(0, []byte("123456789")); got != check {
		t.Errorf("%#x", got)
	}
}

// slowly computes the CRC bit by bit from the polynomial, as it is defined.
func slowly(p []byte) uint64 {
	register := ^uint64(0)
	for _, b := range p {
		register ^= uint64(b)
		for range 8 {
			register = register>>1 ^ crc64.ECMA&-(register&1)
		}
	}
	return ^register
}

func random(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	p := make([]byte, n)
	r.Read(p)
	return p
}

// TestLikeTheStandardLibrary tries every length around the steps of folding at
// every alignment, and random longer ones in random pieces.
func TestLikeTheStandardLibrary(t *testing.T) {
	if !fast {
		t.Log("this processor does not fold: the standard library against itself")
	}
	data := random(1, 1<<20)
	for length := range 700 {
		for align := range 16 {
			p := data[align : align+length]
			if got, want := Update(0, p), crc64.Update(0, table, p); got != want {
				t.Fatalf("%d bytes at %d: %#x, want %#x", length, align, got, want)
			}
		}
	}
	if p := data[:5000]; Update(0, p) != slowly(p) {
		t.Error("not the CRC of the polynomial")
	}
	for range 2000 {
		from := rand.IntN(len(data))
		p := data[from : from+rand.IntN(len(data)-from)]
		want := crc64.Checksum(p, table)
		first, crc, h := rand.Uint64(), uint64(0), New()
		if got, want := Update(first, p), crc64.Update(first, table, p); got != want {
			t.Fatalf("%d bytes at %d after %#x: %#x, want %#x", len(p), from, first, got, want)
		}
		for rest := p; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(1+rand.IntN(len(p))))
			crc = Update(crc, rest[:n])
			h.Write(rest[:n])
			rest = rest[n:]
		}
		if crc != want || h.Sum64() != want {
			t.Fatalf("%d bytes at %d in pieces: %#x and %#x, want %#x", len(p), from, crc, h.Sum64(), want)
		}
	}
}

func TestTheHash(t *testing.T) {
	h, std := New(), crc64.New(table)
	for _, p := range [][]byte{nil, []byte("a"), random(2, 1000)} {
		h.Write(p)
		std.Write(p)
		if !bytes.Equal(h.Sum([]byte("x")), std.Sum([]byte("x"))) || h.Size() != std.Size() {
			t.Errorf("%x, want %x", h.Sum(nil), std.Sum(nil))
		}
	}
	h.Reset()
	if h.Sum64() != 0 {
		t.Error("Reset leaves something")
	}
}

// power is x^n mod P, by n shifts.
func power(n int) uint64 {
	v := one
	for range n {
		v = v>>1 ^ crc64.ECMA&-(v&1)
	}
	return v
}

// TestConstants computes the constants of the assembler from the polynomial.
func TestConstants(t *testing.T) {
	for _, file := range []string{"fold_amd64.s", "fold_arm64.s"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, m := range regexp.MustCompile(`(?m)^DATA (\w+)<>\+(\d)\(SB\)/8, \$(\w+)$`).FindAllStringSubmatch(string(source), -1) {
			found[m[1]+"+"+m[2]] = m[3]
		}
		want := map[string]string{}
		for _, d := range []int{512, 128} {
			want[fmt.Sprintf("by%d+0", d)] = fmt.Sprintf("0x%016x", power(d+63))
			want[fmt.Sprintf("by%d+8", d)] = fmt.Sprintf("0x%016x", power(d-1))
		}
		if fmt.Sprint(found) != fmt.Sprint(want) {
			t.Errorf("%s has %v, want %v", file, found, want)
		}
	}
}

func TestCombine(t *testing.T) {
	data := random(3, 300_000)
	for range 3000 {
		p := data[:rand.IntN(1+rand.IntN(len(data)))]
		cut := rand.IntN(len(p) + 1)
		a, b := Update(0, p[:cut]), Update(0, p[cut:])
		if got, want := Combine(a, b, int64(len(p)-cut)), Update(0, p); got != want {
			t.Fatalf("%d and %d bytes: %#x, want %#x", cut, len(p)-cut, got, want)
		}
	}
	// What no test can read: lengths beyond memory, put together in two ways.
	for range 1000 {
		a, b, c := rand.Uint64(), rand.Uint64(), rand.Uint64()
		n, m := rand.Int64N(1<<61), rand.Int64N(1<<61)
		if Combine(Combine(a, b, n), c, m) != Combine(a, Combine(b, c, m), n+m) {
			t.Fatalf("%#x, %#x, %#x with %d and %d are not the same from both ends", a, b, c, n, m)
		}
	}
	if Combine(7, 0, 0) != 7 || Combine(0, 7, 1<<62) != 7 {
		t.Error("nothing, joined with something, is not that")
	}
}

func FuzzUpdate(f *testing.F) {
	f.Add([]byte("123456789"), uint64(0), uint16(3))
	f.Add(random(4, 300), ^uint64(0), uint16(129))
	f.Fuzz(func(t *testing.T, p []byte, first uint64, at uint16) {
		p = bytes.Repeat(p, 1+int(at)%5) // long ones are rarely found
		cut := min(int(at), len(p))
		want := crc64.Update(first, table, p)
		if got := Update(first, p); got != want {
			t.Errorf("at once %#x, want %#x", got, want)
		}
		if got := Update(Update(first, p[:cut]), p[cut:]); got != want {
			t.Errorf("cut at %d %#x, want %#x", cut, got, want)
		}
		if got := Combine(Update(first, p[:cut]), Update(0, p[cut:]), int64(len(p)-cut)); got != want {
			t.Errorf("combined at %d %#x, want %#x", cut, got, want)
		}
	})
}

// BenchmarkUpdate has the standard library beside ours.
func BenchmarkUpdate(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 16 << 10, 1 << 20} {
		p := random(5, size)
		for name, update := range map[string]func(uint64, []byte) uint64{
			"ours":     Update,
			"standard": func(crc uint64, p []byte) uint64 { return crc64.Update(crc, table, p) },
		} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				for crc := uint64(0); b.Loop(); {
					crc = update(crc, p)
				}
			})
		}
	}
}

func BenchmarkCombine(b *testing.B) {
	for b.Loop() {
		Combine(1, 2, 8<<20)
	}
}
