// Proxy is an HTTP proxy for chat completions: it judges conversations before they are passed on, and cuts an answer that is
// sent as server-sent events where it turns. What it cannot judge it refuses.
//
//	proxy -listen 127.0.0.1:8080 -upstream http://127.0.0.1:8000 [-bundle DIR] [-config FILE]
//	proxy -sample
//
// Without a bundle it takes the built-in demonstration guard. With -sample it moderates three sample conversations that an
// upstream of its own answers.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"

	qwenguard "github.com/libqwenguard/libqwenguard/bindings/go"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:8080", "where to serve")
	upstream := flag.String("upstream", "", "the server that answers, such as http://127.0.0.1:8000")
	bundle := flag.String("bundle", "", "the guard's folder; empty: the built-in demonstration guard")
	config := flag.String("config", "", "a TOML file with the guard's configuration")
	sample := flag.Bool("sample", false, "moderate the sample conversations, and end")
	flag.Parse()

	guard, err := open(*bundle, *config)
	if err != nil {
		return err
	}
	defer guard.Close()
	if *sample {
		return moderateSamples(guard, os.Stdout)
	}
	target, err := url.Parse(*upstream)
	if err != nil || target.Host == "" {
		return fmt.Errorf("-upstream %q: not the address of a server", *upstream)
	}
	return http.ListenAndServe(*listen, newProxy(guard, target, log.Printf))
}

func open(bundle, config string) (*qwenguard.Guard, error) {
	options := &qwenguard.Options{}
	if config != "" {
		text, err := os.ReadFile(config)
		if err != nil {
			return nil, err
		}
		options.Config = string(text)
	}
	if bundle == "" {
		return qwenguard.OpenNano(options)
	}
	return qwenguard.Open(bundle, options)
}
