// Writes which metrics of a guard Prometheus' client library collects.
package main

import (
	"fmt"
	"log"

	qwenguard "github.com/libqwenguard/libqwenguard/bindings/go"
	"github.com/libqwenguard/libqwenguard/bindings/go/qwenguardprometheus"
	"github.com/prometheus/client_golang/prometheus"
)

func main() {
	guard, err := qwenguard.OpenNano(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer guard.Close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(qwenguardprometheus.NewCollector(guard))
	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, family := range families {
		fmt.Println(family.GetName())
	}
}
