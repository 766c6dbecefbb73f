//! Every function against results of Go's own `math`: a table of bit patterns, and where there is a Go toolchain, many
//! more numbers computed while the test runs.

use std::path::Path;
use std::process::Command;

use super::*;

/// Lines of `function argument [argument] result`, doubles as 16 hexadecimal digits.
fn check(table: &str) -> usize {
    let mut wrong = Vec::new();
    for line in table.lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let numbers: Vec<f64> =
            words.map(|word| f64::from_bits(u64::from_str_radix(word, 16).expect("16 digits"))).collect();
        let (result, expected) = match (name, numbers.as_slice()) {
            ("pow", &[x, y, expected]) => (pow(x, y), expected),
            ("atan2", &[y, x, expected]) => (atan2(y, x), expected),
            ("mod", &[x, y, expected]) => (x % y, expected),
            (name, &[x, expected]) => (function(name)(x), expected),
            _ => panic!("{line}"),
        };
        if result.to_bits() != expected.to_bits() && !(result.is_nan() && expected.is_nan()) {
            wrong.push(format!("{line}: {:016x}, {result:e} for {expected:e} of {numbers:?}", result.to_bits()));
        }
    }
    let count = table.lines().count();
    wrong.truncate(20);
    assert!(wrong.is_empty(), "of {count} results, these and perhaps more differ:\n{}", wrong.join("\n"));
    count
}

fn function(name: &str) -> fn(f64) -> f64 {
    match name {
        "exp" => exp,
        "exp2" => exp2,
        "ln" => ln,
        "ln_1p" => ln_1p,
        "log2" => log2,
        "log10" => log10,
        "sin" => sin,
        "cos" => cos,
        "tan" => tan,
        "asin" => asin,
        "acos" => acos,
        "atan" => atan,
        "sinh" => sinh,
        "cosh" => cosh,
        "tanh" => tanh,
        "asinh" => asinh,
        "acosh" => acosh,
        "atanh" => atanh,
        _ => panic!("no function {name}"),
    }
}

#[test]
fn results_are_go_s_to_the_last_bit() {
    assert!(check(include_str!("../../tests/go_math/results.txt")) > 1000);
}

/// The same program that wrote the table, with other numbers.
#[test]
fn results_are_those_of_the_go_toolchain_at_hand() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go_math/main.go");
    // On other architectures, Go takes other steps.
    let output = Command::new("go").arg("run").arg(program).args(["7", "20000"]).env("GOARCH", "amd64").output();
    match output {
        Ok(output) if output.status.success() => {
            let table = String::from_utf8(output.stdout).expect("text");
            println!("{} results compared", check(&table));
        }
        Ok(output) => println!("go run failed: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => println!("no Go toolchain: {error}"),
    }
}

#[test]
fn numbers_are_split_and_put_together() {
    for value in [1.0, -3.5, 5e-324, -2.2e-308, f64::MAX, 1e-310, 0.75] {
        let (fraction, exponent) = split(value);
        assert!((0.5..1.0).contains(&fraction.abs()), "{value}");
        assert_eq!(scale(fraction, exponent).to_bits(), value.to_bits());
    }
    assert_eq!([scale(1.0, 1024), scale(-1.0, 5000), scale(1.0, -1075)], [f64::INFINITY, f64::NEG_INFINITY, 0.0]);
    assert_eq!(scale(1.5, -1075), 5e-324);
    assert_eq!(scale(-1.0, i32::MIN).to_bits(), (-0.0_f64).to_bits());
}
