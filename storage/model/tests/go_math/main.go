// Writes results of Go's math functions as bit patterns, for the tests of go_math:
//
//	go run main.go 1 60 > results.txt
//
// The arguments are a seed and how many arguments each function gets. A line is a function, its arguments and its result.
package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"strconv"
)

var state uint64

func next() uint64 {
	state += 0x9E3779B97F4A7C15
	mixed := state
	mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9
	mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB
	return mixed ^ (mixed >> 31)
}

var special = []float64{
	0, math.Copysign(0, -1), 1, -1, 0.5, -0.5, 2, math.Inf(1), math.Inf(-1), math.NaN(), 5e-324, -5e-324, 1e-310,
	math.MaxFloat64, math.Pi, 1e300, -1e300, math.Sqrt2 / 2, math.Sqrt2 - 1, 709.782712893384, -745.2, 1 << 53, 3,
}

// number is special, any bit pattern, of ordinary size, a small integer, or near one.
func number(index int) float64 {
	if index < len(special) {
		return special[index]
	}
	unit := float64(next()>>11) / (1 << 53)
	switch next() % 7 {
	case 0:
		return math.Float64frombits(next())
	case 1:
		return (unit - 0.5) * 2
	case 2:
		return (unit - 0.5) * 1600
	case 3:
		return float64(int64(next()%2001) - 1000)
	case 4:
		return 1 + (unit-0.5)*math.Ldexp(1, -int(next()%40))
	case 5:
		return math.Round(unit*1e6) / 100
	default:
		return (unit - 0.5) * math.Ldexp(1, int(next()%120)-60)
	}
}

func main() {
	seed, _ := strconv.ParseUint(os.Args[1], 10, 64)
	count, _ := strconv.Atoi(os.Args[2])
	state = seed
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	bits := math.Float64bits
	unary := []struct {
		name string
		of   func(float64) float64
	}{
		{"exp", math.Exp}, {"exp2", math.Exp2}, {"ln", math.Log}, {"ln_1p", math.Log1p}, {"log2", math.Log2},
		{"log10", math.Log10}, {"sin", math.Sin}, {"cos", math.Cos}, {"tan", math.Tan}, {"asin", math.Asin},
		{"acos", math.Acos}, {"atan", math.Atan}, {"sinh", math.Sinh}, {"cosh", math.Cosh}, {"tanh", math.Tanh},
		{"asinh", math.Asinh}, {"acosh", math.Acosh}, {"atanh", math.Atanh},
	}
	for _, function := range unary {
		for i := 0; i < count; i++ {
			x := number(i)
			fmt.Fprintf(out, "%s %016x %016x\n", function.name, bits(x), bits(function.of(x)))
		}
	}
	binary := []struct {
		name string
		of   func(float64, float64) float64
	}{
		{"pow", math.Pow}, {"atan2", math.Atan2}, {"mod", math.Mod},
	}
	for _, function := range binary {
		for i := 0; i < 3*count; i++ {
			x, y := number(i%count), number(int(next()%uint64(count)))
			fmt.Fprintf(out, "%s %016x %016x %016x\n", function.name, bits(x), bits(y), bits(function.of(x, y)))
		}
	}
}
