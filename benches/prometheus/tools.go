//go:build tools

// The Prometheus that answers are compared with, pinned: `go build -o FILE github.com/prometheus/prometheus/cmd/prometheus`.
package judge

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
