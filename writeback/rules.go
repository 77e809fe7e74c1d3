package writeback

// rules switches single rules off, to show in tests what each is for. The
// zero value has all of them on.
type rules struct {
	noR1 bool // one transfer per key at a time
	noR2 bool // a key is not changed while somebody looks at its object through a hole
	noR3 bool // an outcome removes only the row that was carried
	noR4 bool // only a filled content is cloned
	noR5 bool // circles are freed
	noR6 bool // OSS is never ahead of the horizon
	noR7 bool // our own result is recognised by its tag
	noR8 bool // a request without an answer may land later
	noR9 bool // a settle wins over older answers
}
