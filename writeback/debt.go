package writeback

import (
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// payDebts aborts the uploads that nobody wants any more, and deletes the
// hidden copies that have served. Nobody waits for it but a drain, shortly.
func (q *Queue) payDebts() {
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	wait := newBackoff()
	for {
		select {
		case <-q.work.Done():
			return
		case <-q.pay:
		case <-timer.C:
		}
		next := time.Second
		if q.payAll() != nil {
			next = wait.NextBackOff()
		} else {
			wait.Reset()
		}
		timer.Reset(next)
	}
}

func (q *Queue) payAll() error {
	var debts []journal.Debt
	denied := map[string]int{}
	err := q.j.View(func(tx *journal.Tx) error {
		for d, err := range tx.Debts() {
			if err != nil || len(debts) == 1000 {
				return err
			}
			if dir := dirOf(d.Key); q.isDebtDenied(dir, time.Now()) {
				denied[dir]++
			} else {
				debts = append(debts, d)
			}
		}
		return nil
	})
	q.countDeniedDebts(denied)
	if err != nil {
		return err
	}
	for _, d := range debts {
		if q.work.Err() != nil || q.isAway(time.Now()) {
			return nil
		}
		if q.isDebtDenied(dirOf(d.Key), time.Now()) {
			continue
		}
		paid, err := q.payOne(d)
		if isDenied(err) { // it keeps none of the others
			q.denyDebt(dirOf(d.Key), err, time.Now())
			continue
		}
		if err != nil {
			q.log.Debug("a debt is tried again later", "key", d.Key, "upload", d.Upload, "err", err)
			return err
		}
		if !paid {
			continue
		}
		q.permitDebts(dirOf(d.Key))
		crash.At("debt paid, not noted")
		if _, err := q.j.Update(func(tx *journal.Tx) error { return tx.DropDebt(d.ID) }); err != nil {
			return err
		}
		q.debtPaid()
	}
	return nil
}

func (q *Queue) debtPaid() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.DebtsPaid++
	q.announceLocked()
}

// isAway reports that OSS does not answer and it is not time to try. Where no
// transfer is left that would, the debts do.
func (q *Queue) isAway(now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, may := q.health.mayStart(now, q.carriers)
	return !may
}

// deniedDebts are debts of a directory that OSS does not let us pay (H41).
type deniedDebts struct {
	err   error
	since time.Time
	next  time.Time // when one of them is tried again
	wait  *backoff.ExponentialBackOff
	debts int
}

func (q *Queue) isDebtDenied(dir string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	x := q.debtsDenied[dir]
	return x != nil && now.Before(x.next)
}

func (q *Queue) denyDebt(dir string, err error, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	x := q.debtsDenied[dir]
	if x == nil {
		if len(q.debtsDenied) == 0 {
			q.log.Warn("OSS does not let us clean up what is left of uploads: it stays there until it does; all else goes on", "err", err)
		}
		x = &deniedDebts{since: now, wait: newBackoff()}
		q.debtsDenied[dir] = x
	}
	x.err, x.debts = err, max(x.debts, 1)
	x.next = now.Add(x.wait.NextBackOff())
}

// countDeniedDebts takes how many debts wait for a permission.
func (q *Queue) countDeniedDebts(n map[string]int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for dir, x := range q.debtsDenied {
		if n[dir] > 0 {
			x.debts = n[dir]
		}
	}
}

func (q *Queue) permitDebts(dir string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.debtsDenied, dir)
}

func (q *Queue) runs(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running[key] != nil
}

// payOne pays d if it can be paid now: an upload only after its parts in
// flight have ended, a hidden copy only when no row looks at it.
func (q *Queue) payOne(d journal.Debt) (paid bool, err error) {
	var at uint64
	ready := true
	except := ""
	err = q.j.View(func(tx *journal.Tx) error {
		at = tx.At()
		if d.Object {
			for range tx.BasedOn(d.Key) {
				ready = false
				break
			}
			row, err := tx.Row(d.For)
			if err == nil && row != nil && row.Base.Key == d.Key {
				ready = false
			}
			return err
		}
		u, err := tx.Upload(d.Key)
		if err != nil || u == nil {
			return err
		}
		if except = u.ID; u.ID == "" && d.Upload == "" {
			ready = false // the key's next upload has just been asked for
		}
		return nil
	})
	if err != nil || !ready || q.runs(d.Key) || d.Object && q.runs(d.For) {
		return false, err
	}
	if d.Object {
		if err := q.j.WaitHorizon(q.work, at); err != nil {
			return false, nil
		}
		err := q.remote.Delete(q.work, d.Key)
		return err == nil || object.IsAbsent(err), err
	}
	if d.Upload == "" {
		return q.payUnnamed(d, except)
	}
	if err := q.remote.Abort(q.work, d.Key, d.Upload); err != nil && !object.IsAbsent(err) {
		return false, err
	}
	return true, nil
}

// payUnnamed looks for the upload that was asked for. Where it may begin yet it looks
// at once, and when the time is over once more.
func (q *Queue) payUnnamed(d journal.Debt, except string) (paid bool, err error) {
	now := time.Now()
	if q.isEarly(d, now) {
		return false, nil
	}
	if err := q.abortUnnamed(d.Key, d.Asked, except); err != nil {
		return false, err
	}
	if !now.Before(d.Until) {
		q.sought.Delete(d.ID)
		return true, nil
	}
	q.sought.Store(d.ID, nil)
	return false, nil
}

// isEarly reports that d was looked for, and may begin yet.
func (q *Queue) isEarly(d journal.Debt, now time.Time) bool {
	_, sought := q.sought.Load(d.ID)
	return sought && now.Before(d.Until)
}
