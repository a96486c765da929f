package qwenguard

import "runtime"

// Options are how a guard is opened. 0 and empty: as the configuration says, else the default.
type Options struct {
	// Threads that compute one step. Default: one per core.
	Threads uint32
	// Memory for keys and values of all streams together, in MiB. Default: by the machine's memory. Pages are taken from
	// the system as they are first used.
	CacheMiB uint64
	// The configuration, a TOML document: policies, limits, everything else.
	Config string
	// Path of the ONNX Runtime library or of the folder it is in. Default: the variable ORT_DYLIB_PATH, then one that
	// is loaded already, then beside libqwenguard, then the system's folders.
	RuntimeLibrary string
}

// Guard is an opened bundle: heavy, shared, for any number of goroutines at once.
type Guard struct {
	handle  *handle[rawGuard]
	cleanup runtime.Cleanup
}

// Open opens the bundle in a folder. It takes as long as reading the weights and making the session do: seconds, for a large
// model. options may be nil.
//
// It fails with ErrArgument, ErrConfig, ErrProvider, ErrOutOfMemory or ErrInference; with ErrRuntimeNotFound or ErrRuntimeUnusable if there
// is no ONNX Runtime to run it; with ErrBundleFile, ErrBundleField or ErrBundleFormat if the bundle is damaged, newer than the
// library or of an unknown kind.
func Open(bundle string, options *Options) (*Guard, error) {
	if bundle == "" {
		return nil, &Error{Status: ErrArgument, Message: "argument bundle: it is empty"}
	}
	return newGuard(func() (rawGuard, error) {
		return withOptions(options, func(raw *rawOptions) (rawGuard, error) { return guardOpen(bundle, raw) })
	})
}

// OpenNano opens the demonstration guard that is built into the library. It is small and only tells the obvious apart: for
// trying things and for tests.
func OpenNano(options *Options) (*Guard, error) {
	return newGuard(func() (rawGuard, error) { return withOptions(options, guardOpenNano) })
}

// Providers lists every execution provider, as a JSON array of objects with provider, available, devices and reason: whether a
// guard can be opened on it here, what it can compute on, and why not. Which one the options choose makes no difference.
//
// It fails with ErrConfig; with ErrRuntimeNotFound or ErrRuntimeUnusable if there is no ONNX Runtime.
func Providers(options *Options) (string, error) {
	if err := Compatible(); err != nil {
		return "", err
	}
	return withOptions(options, providers)
}

// OpenNanoGen opens the built-in demonstration guard of the variant gen: it annotates whole conversations and has no streams. It
// is as small as the other.
func OpenNanoGen(options *Options) (*Guard, error) {
	return newGuard(func() (rawGuard, error) { return withOptions(options, guardOpenNanoGen) })
}

func newGuard(open func() (rawGuard, error)) (*Guard, error) {
	if err := Compatible(); err != nil {
		return nil, err
	}
	raw, err := open()
	if err != nil {
		return nil, err
	}
	guard := &Guard{handle: &handle[rawGuard]{raw: raw, free: guardFree}}
	guard.cleanup = runtime.AddCleanup(guard, (*handle[rawGuard]).forget, guard.handle)
	return guard, nil
}

// Close frees the guard, if it was not. Its streams keep what they need. It never fails.
func (g *Guard) Close() error {
	g.cleanup.Stop()
	g.handle.close()
	return nil
}

func (g *Guard) acquire() error {
	if !g.handle.acquire() {
		return closed("guard")
	}
	return nil
}

func (g *Guard) release() {
	g.handle.release()
	runtime.KeepAlive(g)
}

// NewStream opens a stream with the guard's policy. It fails with ErrBusy if as many are open as the configuration allows.
func (g *Guard) NewStream() (*Stream, error) { return g.NewStreamWithPolicy("") }

// NewStreamWithPolicy opens a stream with rules of its own, a TOML document. Everything about it that is not given is strict,
// whatever the guard's policy says. An empty text means the guard's policy.
//
// It fails as NewStream does, and with ErrConfig if the policy is wrong or names a category that the model does not have.
func (g *Guard) NewStreamWithPolicy(policy string) (*Stream, error) {
	if err := g.acquire(); err != nil {
		return nil, err
	}
	defer g.release()
	raw, err := streamOpen(g.handle.raw, policy)
	if err != nil {
		return nil, err
	}
	return newStream(raw), nil
}

// Info tells what the guard is made of, as a JSON object: bundle, checkpoint, precision, dimensions, labels, ONNX Runtime.
func (g *Guard) Info() (string, error) {
	if err := g.acquire(); err != nil {
		return "", err
	}
	defer g.release()
	return guardInfo(g.handle.raw)
}

// Categories are the names of categories by their index, exactly as the checkpoint spells them.
func (g *Guard) Categories(heads Heads) ([]string, error) {
	if err := g.acquire(); err != nil {
		return nil, err
	}
	defer g.release()
	count, err := guardCategoryCount(g.handle.raw, uint32(heads))
	names := make([]string, count)
	for index := uint32(0); index < count && err == nil; index++ {
		names[index], err = guardCategoryName(g.handle.raw, uint32(heads), index)
	}
	return names, err
}

// Category is the name of one category. It fails with ErrArgument if there is none of that index.
func (g *Guard) Category(heads Heads, index int) (string, error) {
	if err := g.acquire(); err != nil {
		return "", err
	}
	defer g.release()
	if err := notNegative("category", index); err != nil {
		return "", err
	}
	return guardCategoryName(g.handle.raw, uint32(heads), uint32(min(index, MaxCategories)))
}

// Encode gives the tokens of a text, as [Stream.PushTokens] wants them, and the bytes of the text that each stands for. Special
// tokens that the text spells are text. It fails with ErrArgument if the text is not UTF-8.
func (g *Guard) Encode(text string) (ids []uint32, spans []Span, err error) {
	if err := g.acquire(); err != nil {
		return nil, nil, err
	}
	defer g.release()
	return encode(g.handle.raw, text)
}

// TokenBytes are the bytes that a token stands for: often not whole characters. It fails with ErrArgument if there is no such
// token.
func (g *Guard) TokenBytes(id uint32) ([]byte, error) {
	if err := g.acquire(); err != nil {
		return nil, err
	}
	defer g.release()
	return guardTokenBytes(g.handle.raw, id)
}

// Stats tells what the guard has done and how it is.
func (g *Guard) Stats() (Stats, error) {
	if err := g.acquire(); err != nil {
		return Stats{}, err
	}
	defer g.release()
	return guardStats(g.handle.raw)
}

// Metrics gives what [Guard.Stats] and [Guard.VerdictCounts] do in the text format of Prometheus, version 0.0.4, with histograms of
// times and batch sizes. All names start with "qwenguard_".
func (g *Guard) Metrics() (string, error) {
	if err := g.acquire(); err != nil {
		return "", err
	}
	defer g.release()
	return guardMetrics(g.handle.raw)
}
