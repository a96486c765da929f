package qwenguard

import (
	"sync"
	"time"
)

// calls is a queue of the library, and a goroutine that takes what is done out of it while it has anything.
type calls struct {
	queue *handle[rawQueue]

	mu      sync.Mutex
	next    uint64
	pending map[uint64]*pendingCall
	// Whether there is that goroutine.
	taking bool
	// Calls that did not come back, with those that are just doing so, which are not pending.
	count int
	empty sync.Cond
}

type pendingCall struct {
	// nil for an annotation
	stream *Stream
	tag    uint64
	done   func(Reply)
}

func (p *pendingCall) release() {
	if p.stream != nil {
		p.stream.release()
	}
}

// submission is a call in the queue. The library knows it by its ticket.
type submission struct {
	calls  *calls
	ticket uint64
}

// sharedCalls are those that wait for the end of a context. They stay as long as the process.
var sharedCalls = sync.OnceValues(newCalls)

func newCalls() (*calls, error) {
	raw, err := queueOpen()
	if err != nil {
		return nil, err
	}
	c := &calls{queue: &handle[rawQueue]{raw: raw, free: queueFree}, pending: make(map[uint64]*pendingCall)}
	c.empty.L = &c.mu
	return c, nil
}

// submit begins a call. It comes back through done, on another goroutine, unless submit fails.
func (c *calls) submit(call *Call, tag uint64, timeout time.Duration, done func(Reply)) (*submission, error) {
	if !c.queue.acquire() {
		return nil, closed("queue")
	}
	defer c.queue.release()
	if err := call.check(); err != nil {
		return nil, err
	}
	stream := call.stream
	if stream != nil {
		if err := stream.acquireQueued(); err != nil {
			return nil, err
		}
	}
	pending := &pendingCall{stream, tag, done}
	ticket, ok := c.add(pending)
	if !ok {
		pending.release()
		return nil, closed("queue")
	}
	if err := call.begin(c.queue.raw, ticket, timeout); err != nil {
		c.end(c.claim(ticket), nil)
		return nil, err
	}
	submission := &submission{c, ticket}
	if stream != nil {
		stream.submitted.Store(submission)
	}
	// Who closes one of them cancels what it finds, and may have come before there was anything to find.
	if stream != nil && stream.handle.isClosed() || c.queue.isClosed() {
		_, _ = queueCancel(c.queue.raw, ticket)
	}
	c.take()
	return submission, nil
}

// add keeps a call and gives its ticket, unless the queue was closed meanwhile: who closes it waits for all that were added.
func (c *calls) add(call *pendingCall) (ticket uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queue.isClosed() {
		return 0, false
	}
	c.next++
	c.count++
	c.pending[c.next] = call
	return c.next, true
}

// claim makes a call the caller's to end. It is nil if it was somebody else's.
func (c *calls) claim(ticket uint64) *pendingCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.pending[ticket]
	delete(c.pending, ticket)
	return call
}

// end gives a call back, unless there is no reply.
func (c *calls) end(call *pendingCall, reply *Reply) {
	if call == nil {
		return
	}
	call.release()
	if reply != nil {
		call.done(*reply)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count--
	if c.count == 0 {
		c.empty.Broadcast()
	}
}

// take has somebody take completions. The caller has acquired the queue.
func (c *calls) take() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.taking {
		c.taking = true
		c.queue.retain()
		go c.takeAll()
	}
}

func (c *calls) takeAll() {
	defer c.queue.release()
	for c.goesOn() {
		completions, err := wait(c.queue.raw)
		if err != nil {
			c.failAll(err)
			return
		}
		for _, completion := range completions {
			c.end(c.claim(completion.tag), &completion.reply)
		}
	}
}

// goesOn tells whether the library has calls. All of them will come back: a stream is not freed before its call has.
func (c *calls) goesOn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	count, err := queueLength(c.queue.raw)
	c.taking = err != nil || count > 0
	return c.taking
}

// failAll is for a library that does not tell what is done, so that nobody waits for ever.
func (c *calls) failAll(err error) {
	c.mu.Lock()
	c.taking = false
	c.mu.Unlock()
	for _, ticket := range c.tickets(func(*pendingCall) bool { return true }) {
		c.end(c.claim(ticket), &Reply{Err: err})
	}
}

// cancel gives up the calls with a tag that are not done, and tells how many there were.
func (c *calls) cancel(tag uint64) (count int, err error) {
	if !c.queue.acquire() {
		return 0, closed("queue")
	}
	defer c.queue.release()
	for _, ticket := range c.tickets(func(call *pendingCall) bool { return call.tag == tag }) {
		cancelled, err := queueCancel(c.queue.raw, ticket)
		if err != nil {
			return count, err
		}
		count += cancelled
	}
	return count, nil
}

func (c *calls) tickets(wanted func(*pendingCall) bool) []uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var tickets []uint64
	for ticket, call := range c.pending {
		if wanted(call) {
			tickets = append(tickets, ticket)
		}
	}
	return tickets
}

// close gives up all calls, and waits until they came back. It tells whether it was the first to do so.
func (c *calls) close() bool {
	if !c.queue.acquire() {
		return false
	}
	defer c.queue.release()
	if !c.refuse() {
		return false
	}
	for _, ticket := range c.tickets(func(*pendingCall) bool { return true }) {
		_, _ = queueCancel(c.queue.raw, ticket)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.count > 0 {
		c.empty.Wait()
	}
	return true
}

// refuse lets no more calls in. It tells whether it was the first to do so.
func (c *calls) refuse() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queue.close()
}

func (s *submission) cancel() {
	if s.calls.queue.acquire() {
		_, _ = queueCancel(s.calls.queue.raw, s.ticket)
		s.calls.queue.release()
	}
}
