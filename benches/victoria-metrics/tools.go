//go:build tools

// The VictoriaMetrics that figures are compared with, pinned: `go build -o FILE github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics`.
package judge

import (
	_ "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics"
)
