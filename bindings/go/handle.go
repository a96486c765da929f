package qwenguard

import "sync/atomic"

// handle holds an object of the library and counts the calls that use it: closing frees it at once, or after the last of
// them. Callers keep the Go object that owns the handle alive until they release it, for its cleanup closes it.
type handle[T any] struct {
	raw  T
	free func(T)
	// The number of calls, and closedBit.
	state atomic.Int64
}

const closedBit = 1 << 62

// acquire begins a call, unless the object is closed or there is none.
func (h *handle[T]) acquire() bool {
	for h != nil {
		state := h.state.Load()
		if state&closedBit != 0 {
			return false
		}
		if h.state.CompareAndSwap(state, state+1) {
			return true
		}
	}
	return false
}

// retain begins another call within one, also of an object that is closed already.
func (h *handle[T]) retain() { h.state.Add(1) }

// release ends a call.
func (h *handle[T]) release() {
	if h.state.Add(-1) == closedBit {
		h.free(h.raw)
	}
}

func (h *handle[T]) isClosed() bool { return h.state.Load()&closedBit != 0 }

// close lets no more calls begin. It tells whether it was the first to do so.
func (h *handle[T]) close() bool {
	if h == nil {
		return false
	}
	before := h.state.Or(closedBit)
	if before == 0 {
		h.free(h.raw)
	}
	return before&closedBit == 0
}

// forget is close for cleanups.
func (h *handle[T]) forget() { h.close() }
