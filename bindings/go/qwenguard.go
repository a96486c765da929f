// Package qwenguard moderates conversations with Qwen3Guard while a language model is still writing them. It needs
// libqwenguard and cgo.
//
// Open a [Guard] once, a [Stream] for each conversation; give it the prompt, then the answer as it is produced, and show no
// more of it than [Update.Horizon] allows. A [Writer] does that for an answer that is written to an [io.Writer].
//
// Whole conversations that are there already are judged by [Guard.Annotate], with bundles of Qwen3Guard-Gen, too.
//
// # Text and numbers
//
// Text is UTF-8 in strings, which may hold NUL characters. Lengths and places in answers are bytes, ends are exclusive, and
// both count from the start of the answer with everything that was pushed. Probabilities are 0 to 1.
//
// # Goroutines
//
// A [Guard] and a [Queue] are for any number of goroutines at once, a [Stream] for one at a time: a call that finds another
// one going on fails with [ErrInUse] and does nothing. Calls of several streams that are made at the same time are computed
// together, which is much cheaper than one after another.
//
// # Contexts
//
// A call that computes takes a context, and is cancelled when that ends, also while the model computes it: nothing was added
// then. All calls with such a context share one thread of the system, however many there are. A context that cannot end,
// as [context.Background], makes a plain call of C, which is a little faster but keeps a thread while the model computes.
//
// # Closing
//
// Guards, streams and queues hold memory that Go's collector does not see: close them, in any order. One that is closed
// while a call is going on is freed when that has ended. What is forgotten is closed some time after it was last used.
package qwenguard

import "fmt"

// Version is the version of the library that is loaded, such as "0.1.0".
func Version() string { return version() }

// VersionNumber is the same as one number: major * 1000000 + minor * 1000 + patch.
func VersionNumber() int { return int(versionNumber()) }

// Compatible is nil if the library that is loaded has the binary interface that this package was built for. [Open],
// [OpenNano], [OpenNanoGen] and [OpenQueue] fail with its error.
func Compatible() error { return compatible(abiVersion()) }

func compatible(loaded uint32) error {
	if loaded == builtABI {
		return nil
	}
	return fmt.Errorf("qwenguard: the library that is loaded is version %s with binary interface %d, "+
		"this program was built for version %d.%d.%d with binary interface %d",
		Version(), loaded, builtVersion/1000000, builtVersion/1000%1000, builtVersion%1000, builtABI)
}
