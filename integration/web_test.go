package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// screenshotsEnv names a directory in which the pictures of the page stay.
const screenshotsEnv = "OSSMOUNT_SCREENSHOTS"

// browser is a page in headless Chromium, which hears what it asks for and complains
// of.
type browser struct {
	e    *env
	ctx  context.Context
	base string

	mu       sync.Mutex
	requests []string
	said     []string
}

// browse opens the page of a mount in a fresh Chromium, which knows no name server.
func (e *env) browse(p pageOf) *browser {
	e.Helper()
	opts := []chromedp.ExecAllocatorOption{
		chromedp.Flag("headless", true), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-extensions", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"),
		chromedp.UserDataDir(e.path("browser")),
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	e.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	e.Cleanup(cancel)
	b := &browser{e: e, ctx: ctx, base: p.url("/")}
	e.ok(chromedp.Do(ctx)) // it lives as long as this context
	go hear(b, chromedp.Events(ctx, network.RequestWillBeSent), func(ev network.EventRequestWillBeSent) { b.requests = append(b.requests, ev.Request.URL) })
	go hear(b, chromedp.Console(ctx), func(m chromedp.ConsoleMessage) {
		if m.IsException() || m.Type == "error" || m.Type == "warning" {
			b.said = append(b.said, m.String()+" "+m.URL)
		}
	})
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, network.Enable, network.EnableParams{})
		return err
	}), chromedp.EmulateViewport(1280, 900), chromedp.Navigate(b.base), chromedp.WaitVisible("#source"))
	return b
}

// hear takes what the browser tells, until it ends.
func hear[E any](b *browser, told iter.Seq2[E, error], take func(E)) {
	for ev, err := range told {
		if err != nil {
			return
		}
		func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			take(ev)
		}()
	}
}

func (b *browser) do(what ...chromedp.Action[chromedp.Void]) {
	b.e.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	b.e.ok(chromedp.Do(ctx, what...))
}

// value is what an expression of the page's language gives.
func value[T any](b *browser, expr string) T {
	b.e.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expr))
	b.e.ok(err)
	return v
}

// until waits until an expression is true.
func (b *browser) until(what, expr string) {
	b.e.Helper()
	b.e.poll("the page: "+what, patience, func() bool { return value[bool](b, expr) })
}

// enter replaces what is in a field.
func (b *browser) enter(id, text string) {
	b.e.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.getElementById(%q).select()`, id)), chromedp.KeyEvent(text))
	b.until("the field has it", fmt.Sprintf(`document.getElementById(%q).value === %s`, id, quoteJS(text)))
}

// press presses the button with an accessible name.
func (b *browser) press(name string) {
	b.e.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](`[...document.querySelectorAll("button")].find((x) => x.getAttribute("aria-label") === ` + quoteJS(name) + `).click()`))
}

// picture keeps what the page looks like, and fails if that is nothing.
func (b *browser) picture(name, scheme string, width int64) {
	b.e.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	}), chromedp.EmulateViewport(width, 900, func(p *emulation.SetDeviceMetricsOverrideParams, _ *emulation.SetTouchEmulationEnabledParams) {
		p.Mobile = width < 500
	}))
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	b.e.ok(err)
	if !bytes.HasPrefix(png, []byte("\x89PNG")) || len(png) < 10_000 {
		b.e.Errorf("%s: a picture of %d bytes", name, len(png))
	}
	dir := b.e.dir
	if at, ok := os.LookupEnv(screenshotsEnv); ok {
		dir = at
		b.e.ok(os.MkdirAll(dir, 0o755))
	}
	b.e.ok(os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644))
}

// isQuiet fails the test for what the page has asked for elsewhere, or complained of;
// expected are parts of complaints that are right.
func (b *browser) isQuiet(expected ...string) {
	b.e.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, url := range b.requests {
		if !strings.HasPrefix(url, b.base) && url != "data:," {
			b.e.Errorf("the page asks for %s", url)
		}
	}
	if len(b.requests) < 5 {
		b.e.Errorf("the page has made %d requests only: %q", len(b.requests), b.requests)
	}
	for _, text := range b.said {
		ok := false
		for _, x := range expected {
			ok = ok || strings.Contains(text, x)
		}
		if !ok {
			b.e.Errorf("the browser says: %s", text)
		}
	}
}

// The page in a browser, beside a real mount: what is sent moves, and what is parked
// is tried again by its button, if the token is right. A name that looks like markup is
// a name.
func TestWebPage(t *testing.T) {
	t.Parallel()
	e := setup(t)
	const name = `<img src=x onerror=alert(1)> & "parked".txt`
	fault, err := e.server.Fault("error,code=InvalidArgument,status=400,op=PutObject")
	e.ok(err)
	m := e.mount("cache", "--http=0", "--part-size=1MiB", "--upload-limit=1MiB")
	p := m.page()
	e.write(m.in(name), "parked")
	e.poll("it is parked", patience, func() bool { return m.status().Queue.Parked == 1 })

	b := e.browse(p)
	b.until("the mount is named", fmt.Sprintf(`document.getElementById("where").textContent === "on " + %q && document.getElementById("state").textContent === "serving"`, m.Point))
	e.write(m.in("big.iso"), strings.Repeat("0123456789abcdef", 12<<20/16))
	const progress = `Number((document.querySelector('#uploads li[data-path="big.iso"] [role=progressbar]') || {getAttribute: () => 0}).getAttribute("aria-valuenow"))`
	b.until("a row appears, and is under way", progress+` > 0`)
	first := value[float64](b, progress)
	b.until("it moves", fmt.Sprintf(`%s > %v`, progress, first))
	b.until("there is a rate", `/^[1-9].* [KM]iB\/s$/.test(document.getElementById("rate").textContent)`)
	if e.metric(p, "ossmount_requests_in_flight") < 1 || e.metric(p, `ossmount_changes{state="uploading"}`) != 1 || e.metric(p, `ossmount_changes{state="parked"}`) != 1 {
		t.Error("the metrics say something else")
	}
	b.until("pending rows are listed", `!!document.querySelector('#rows li[data-path="big.iso"]')`)

	b.do(chromedp.Click("#tab-stuck"))
	b.until("the parked row says why", `[...document.querySelectorAll("#rows li")].some((li) => li.dataset.path === `+quoteJS(name)+` && li.textContent.includes("InvalidArgument"))`)
	b.picture("light", "light", 1280)
	b.picture("dark", "dark", 1280)
	b.picture("phone", "light", 390)
	if w := value[int](b, `document.documentElement.scrollWidth`); w != 390 {
		t.Errorf("on a phone of 390 the page is %d wide", w)
	}
	b.do(chromedp.EmulateViewport(1280, 900))

	retry := func() { t.Helper(); b.press("Retry " + name) }
	retry()
	b.until("without a token it says what is needed", `document.getElementById("said").className.includes("bad") && document.getElementById("said").textContent.includes("A token is needed")`)
	b.enter("token", "a wrong one")
	retry()
	b.until("a wrong token is refused", `document.getElementById("said").className.includes("bad") && document.getElementById("said").textContent.includes("missing or wrong")`)
	if s := m.status(); s.Queue.Parked != 1 {
		t.Fatalf("after a wrong token: %+v", s.Queue)
	}
	_, err = e.server.RemoveFault(fault.ID)
	e.ok(err)
	b.enter("token", p.Token)
	retry()
	b.until("it is tried again", `document.getElementById("said").textContent.endsWith("is tried again.") && !document.querySelector("#rows li")`)
	m.wait(m.Point)
	e.object(name, "parked")
	b.until("all is on OSS", `document.getElementById("pending-more").textContent === "all is on OSS" && !document.querySelector("#uploads li")`)
	b.isQuiet(p.url("/recover"))
	m.umount(0)
}

func quoteJS(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// With thousands of changes the page shows a hundred, finds one by its name, and
// discards what is asked for.
func TestWebPageWithManyRows(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--http=0", "--write-back-delay=1h")
	const many = 5200
	e.ok(os.Mkdir(m.in("many"), 0o755))
	for i := range many {
		e.write(m.in(fmt.Sprintf("many/file-%04d.txt", i)), "some text")
	}
	m.crashWriting("many/never closed", "", "half", 0)
	m.start()
	m.crashWriting("many/unfinished", "was", "half", 0)
	m.start()
	p := m.page()
	b := e.browse(p)
	const rows = `document.querySelectorAll("#rows li").length`
	b.until("the first page is there", rows+` === 100 && document.getElementById("page-at").textContent === "1 to 100 of 5,201"`)
	b.picture("many", "light", 1280)
	b.do(chromedp.Click("#next"))
	b.until("the next page is there", `!!document.querySelector('#rows li[data-path="many/file-0100.txt"]') && `+rows+` === 100 && document.getElementById("page-at").textContent.startsWith("101 to 200")`)
	b.enter("filter", "FILE-51")
	b.until("a name is found", `!!document.querySelector('#rows li[data-path="many/file-5100.txt"]') && !document.querySelector('#rows li[data-path="many/file-0100.txt"]')`)
	if n := value[int](b, `document.querySelectorAll("*").length`); n > 2000 {
		t.Errorf("the page has %d elements", n)
	}
	b.enter("filter", "nothing like it")
	b.until("there is none", `!document.getElementById("rows-none").hidden && document.getElementById("rows-none").textContent === "Nothing has such a name."`)

	b.enter("filter", "unfin")
	b.do(chromedp.Click("#tab-stuck"))
	b.until("what was being written is there", `!!document.querySelector('#rows li[data-path="many/unfinished"] .tag.interrupted')`)
	b.enter("token", p.Token)
	b.press("Discard many/unfinished")
	b.until("it is asked", `document.getElementById("ask").open`)
	b.do(chromedp.Click("#ask-no"))
	if s := m.status(); s.Queue.Interrupted != 1 {
		t.Fatalf("before the answer: %+v", s.Queue)
	}
	b.press("Discard many/unfinished")
	b.do(chromedp.Click("#ask-yes"))
	b.until("it is gone", `document.getElementById("said").textContent === "many/unfinished was discarded." && !document.querySelector("#rows li")`)
	if s := m.status(); s.Queue.Interrupted != 0 || s.Queue.Pending != many+1 {
		t.Errorf("after the answer: %+v", s.Queue)
	}

	b.enter("filter", "never")
	b.do(chromedp.Click("#tab-found"))
	b.until("what was found is there", `document.querySelectorAll("#rows li").length === 1 && !!document.querySelector('#rows li[data-path="many/never closed"] .tag.found')`)
	b.press("Discard many/never closed")
	b.do(chromedp.Click("#ask-yes"))
	b.until("it is gone, too", `document.getElementById("said").textContent === "many/never closed was discarded." && !document.querySelector("#rows li")`)
	if s := m.status(); len(s.LostAndFound) != 0 {
		t.Errorf("found: %+v", s.LostAndFound)
	}
	b.isQuiet()
	m.umount(3, "--drain=0s")
}
