package qwenguard

// bundledRuntime loads the ONNX Runtime that came with the module. Released modules set it: see docs/packages.md.
var bundledRuntime func() error

// loadBundledRuntime comes before the library looks for ONNX Runtime, unless the options name one.
func loadBundledRuntime(options *Options) error {
	if bundledRuntime == nil || options != nil && options.RuntimeLibrary != "" {
		return nil
	}
	if err := bundledRuntime(); err != nil {
		return &Error{Status: ErrRuntimeUnusable, Message: err.Error()}
	}
	return nil
}
