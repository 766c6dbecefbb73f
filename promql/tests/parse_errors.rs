//! Messages and positions of refused queries; each was checked against Prometheus 3.14.

use pilaster_promql::parser::{ParseOptions, parse, parse_duration_ms, parse_selector};

/// With all features enabled.
#[rustfmt::skip]
const ERRORS: &[(&str, &str)] = &[
    ("", "unknown position: parse error: no expression found in input"),
    ("1 +", "1:4: parse error: unexpected end of input"),
    ("+", "1:2: parse error: unexpected end of input"),
    ("foo bar", r#"1:5: parse error: unexpected identifier "bar""#),
    ("foo 5", r#"1:5: parse error: unexpected number "5""#),
    (r#"foo "x""#, r#"1:5: parse error: unexpected string "\"x\"""#),
    ("(foo", "1:5: parse error: unclosed left parenthesis"),
    ("foo)", "1:5: parse error: unexpected right parenthesis ')'"),
    (")", "1:2: parse error: unexpected right parenthesis ')'"),
    ("(", "1:2: parse error: unclosed left parenthesis"),
    ("()", r#"1:2: parse error: unexpected ")""#),
    ("foo[", "1:5: parse error: unexpected end of input in duration expression"),
    ("foo[]", r#"1:5: parse error: unexpected "]" in subquery or range selector, expected number, duration, step(), or range()"#),
    ("foo[5m", "1:7: parse error: unclosed left bracket"),
    ("foo[5m)", "1:8: parse error: unexpected right parenthesis ')'"),
    ("foo[5m 1m]", r#"1:8: parse error: unexpected duration "1m" in subquery or range, expected ":" or "]""#),
    ("foo[abc]", "1:5: parse error: unexpected character in duration expression: 'a'"),
    ("foo[5]x", r#"1:7: parse error: unexpected identifier "x""#),
    ("foo[5m:1m:1m]", "1:10: parse error: unexpected colon ':'"),
    ("foo[:5m]", "1:6: parse error: unexpected colon before duration in duration expression"),
    ("foo[5m:1x]", r#"1:8: parse error: bad number or duration syntax: "1""#),
    ("foo[5m:1m", "1:10: parse error: unclosed left bracket"),
    ("foo[5m:1m 1m]", r#"1:11: parse error: unexpected duration "1m" in subquery selector, expected "]""#),
    ("foo[5m:abc]", "1:8: parse error: unexpected character: 'a', expected ':'"),
    ("foo[0]", "1:5: parse error: duration must be greater than 0"),
    ("foo[0s]", "1:5: parse error: duration must be greater than 0"),
    ("foo[-5m]", "1:5: parse error: duration must be greater than 0"),
    ("foo[5m:0s]", "1:8: parse error: duration must be greater than 0"),
    ("foo[5m:-1m]", "1:8: parse error: duration must be greater than 0"),
    ("foo[5m/0]", "1:7: parse error: division by zero"),
    ("foo[5m%0]", "1:7: parse error: modulo by zero"),
    ("foo[300y]", "1:5: parse error: duration out of range"),
    ("foo[5m * ]", r#"1:10: parse error: unexpected "]" in subquery or range selector, expected number, duration, step(), or range()"#),
    ("foo[step(]", r#"1:10: parse error: unexpected "]" in subquery or range selector, expected number, duration, step(), or range()"#),
    ("foo[step]", r#"1:9: parse error: unexpected "]" in subquery or range selector, expected number, duration, step(), or range()"#),
    ("foo[max_of(1)]", r#"1:13: parse error: unexpected ")" in subquery or range selector, expected number, duration, step(), or range()"#),
    ("foo[(5m]", r#"1:8: parse error: unexpected "]" in subquery or range selector, expected number, duration, step(), or range()"#),
    ("foo[5m][5m]", "1:8: parse error: ranges only allowed for vector selectors"),
    ("foo[5m][5m:1m]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead"),
    ("sum(foo)[5m]", "1:9: parse error: ranges only allowed for vector selectors"),
    ("(foo)[5m]", "1:6: parse error: ranges only allowed for vector selectors"),
    ("1[5m]", "1:2: parse error: ranges only allowed for vector selectors"),
    ("foo offset 5m [5m]", "1:15: parse error: no offset modifiers allowed before range"),
    ("foo @ 5 [5m]", "1:9: parse error: no @ modifiers allowed before range"),
    ("foo offset", "1:11: parse error: unexpected end of input in offset, expected number, duration, step(), or range()"),
    ("foo offset bar", r#"1:12: parse error: unexpected identifier "bar" in offset, expected number, duration, step(), or range()"#),
    ("foo offset -", "1:13: parse error: unexpected end of input in offset, expected number, duration, step(), or range()"),
    ("foo offset 5m offset 5m", "1:1: parse error: offset may not be set multiple times"),
    ("foo offset (5m", "1:15: parse error: unclosed left parenthesis"),
    ("foo offset 5m 5m", r#"1:15: parse error: unexpected duration "5m""#),
    ("foo offset (5m) + bar", r#"1:19: parse error: unexpected identifier "bar" in offset, expected number, duration, step(), or range()"#),
    ("sum(foo) offset 5m", "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery"),
    ("(foo) offset 5m", "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery"),
    ("1 offset 5m", "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery"),
    ("foo offset 300y", "1:12: parse error: duration out of range"),
    ("foo @", "1:6: parse error: unexpected end of input in @, expected timestamp"),
    ("foo @ bar", r#"1:7: parse error: unexpected identifier "bar" in @, expected timestamp"#),
    ("foo @ 5m 1", r#"1:10: parse error: unexpected number "1""#),
    ("foo @ 1 @ 2", "1:1: parse error: @ <timestamp> may not be set multiple times"),
    ("foo @ start", "1:12: parse error: unexpected end of input in @, expected timestamp"),
    ("foo @ start(", "1:13: parse error: unclosed left parenthesis"),
    ("foo @ start() @ end()", "1:1: parse error: @ <timestamp> may not be set multiple times"),
    ("foo @ inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf"),
    ("foo @ 1e30", "1:1: parse error: timestamp out of bounds for @ modifier: 1000000000000000019884624838656.000000"),
    ("(foo) @ 5", "1:1: parse error: @ modifier must be preceded by an instant vector selector or range vector selector or a subquery"),
    ("sum(foo) @ 5", "1:1: parse error: @ modifier must be preceded by an instant vector selector or range vector selector or a subquery"),
    ("1 @ 5", "1:1: parse error: @ modifier must be preceded by an instant vector selector or range vector selector or a subquery"),
    ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
    (r#"{a=""}"#, "1:1: parse error: vector selector must contain at least one non-empty matcher"),
    (r#"{a=~".*"}"#, "1:1: parse error: vector selector must contain at least one non-empty matcher"),
    (r#"{a!="b"}"#, "1:1: parse error: vector selector must contain at least one non-empty matcher"),
    (r#"{a!~"b"}"#, "1:1: parse error: vector selector must contain at least one non-empty matcher"),
    ("foo{", "1:5: parse error: unexpected end of input inside braces"),
    ("foo{a", "1:6: parse error: unexpected end of input inside braces"),
    ("foo{a=", "1:7: parse error: unexpected end of input inside braces"),
    ("foo{a=b}", r#"1:7: parse error: unexpected identifier "b" in label matching, expected string"#),
    (r#"foo{a="b""#, "1:10: parse error: unexpected end of input inside braces"),
    (r#"foo{a="b" c="d"}"#, r#"1:11: parse error: unexpected identifier "c" in label matching, expected "," or "}""#),
    (r#"foo{a="b",,}"#, r#"1:11: parse error: unexpected "," in label matching, expected identifier or "}""#),
    ("foo{,}", r#"1:5: parse error: unexpected "," in label matching, expected identifier or "}""#),
    (r#"foo{"a"="b" "c"}"#, r#"1:13: parse error: unexpected string "\"c\"" in label matching, expected "," or "}""#),
    (r#"foo{a=~"("}"#, "1:5: parse error: error parsing regexp: missing closing ): `(`"),
    (r#"foo{a=~"*"}"#, "1:5: parse error: error parsing regexp: missing argument to repetition operator: `*`"),
    ("foo{a=5}", "1:7: parse error: unexpected character inside braces: '5'"),
    (r#"foo{a=="b"}"#, r#"1:7: parse error: unexpected "=" in label matching, expected string"#),
    (r#"foo{a!"b"}"#, r#"1:6: parse error: unexpected character after '!' inside braces: '"'"#),
    (r#"foo{1="a"}"#, "1:5: parse error: unexpected character inside braces: '1'"),
    (r#"foo{a-b="c"}"#, "1:6: parse error: unexpected character inside braces: '-'"),
    (r#"foo{a="b"}}"#, "1:11: parse error: unexpected character: '}'"),
    (r#"foo{a="b"}{c="d"}"#, r#"1:11: parse error: unexpected "{""#),
    (r#"foo{__name__="bar"}"#, r#"1:1: parse error: metric name must not be set twice: "foo" or "bar""#),
    (r#"foo{"bar"}"#, r#"1:1: parse error: metric name must not be set twice: "foo" or "bar""#),
    (r#"{"foo", "bar"} {}"#, r#"1:16: parse error: unexpected "{""#),
    ("foo{a='b}", "1:7: parse error: unterminated quoted string"),
    (r#"foo{a="b\q"}"#, "1:7: parse error: unknown escape sequence U+0071 'q'"),
    (r#""\x1g""#, "1:1: parse error: illegal character U+0067 'g' in escape sequence"),
    (r#""\400""#, "1:1: parse error: escape sequence is an invalid Unicode code point"),
    (r#""\ud800""#, "1:1: parse error: escape sequence is an invalid Unicode code point"),
    (r#""unterminated"#, "1:1: parse error: unterminated quoted string"),
    ("'unterminated", "1:1: parse error: unterminated quoted string"),
    ("`unterminated", "1:1: parse error: unterminated raw string"),
    (r#""a"#, "1:1: parse error: unterminated quoted string"),
    (r#"b""#, "1:2: parse error: unterminated quoted string"),
    ("$", "1:1: parse error: unexpected character: '$'"),
    ("foo $ bar", "1:5: parse error: unexpected character: '$'"),
    ("foo ! bar", "1:5: parse error: unexpected character after '!': ' '"),
    ("foo =~ bar", "1:5: parse error: unexpected character after '=': '~'"),
    ("foo = bar", r#"1:5: parse error: unexpected "=""#),
    ("foo !~ bar", "1:5: parse error: unexpected character after '!': '~'"),
    ("5m1h", r#"1:1: parse error: not a valid duration string: "5m1h""#),
    ("5mm", r#"1:1: parse error: bad number or duration syntax: "5mm""#),
    ("5x", r#"1:1: parse error: bad number or duration syntax: "5""#),
    ("1.5m", r#"1:1: parse error: unknown unit "." in duration "1.5m""#),
    ("0x", r#"1:1: parse error: error parsing number: strconv.ParseFloat: parsing "0x": invalid syntax"#),
    ("0xg", r#"1:1: parse error: bad number or duration syntax: "0x""#),
    ("1e", r#"1:1: parse error: bad number or duration syntax: "1e""#),
    ("1__0", r#"1:1: parse error: bad number or duration syntax: "1__""#),
    ("1.2.3", r#"1:1: parse error: bad number or duration syntax: "1.2.""#),
    ("08x", r#"1:1: parse error: bad number or duration syntax: "08""#),
    ("3y5h2hs", r#"1:1: parse error: unknown unit "hs" in duration "3y5h2hs""#),
    ("sum()", "1:1: parse error: no arguments for aggregate expression provided"),
    ("sum(1)", "1:5: parse error: expected type instant vector in aggregation expression, got scalar"),
    ("sum(foo, bar)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 1, got 2"),
    ("sum by foo", r#"1:8: parse error: unexpected identifier "foo" in grouping opts, expected "(""#),
    ("sum by (foo", "1:12: parse error: unclosed left parenthesis"),
    ("sum by (foo)", "1:13: parse error: unexpected end of input in aggregation"),
    ("sum by (foo) bar", r#"1:14: parse error: unexpected identifier "bar" in aggregation"#),
    ("sum by (foo,,bar) (x)", r#"1:13: parse error: unexpected "," in grouping opts, expected label"#),
    ("sum by (5) (x)", r#"1:9: parse error: unexpected number "5" in grouping opts, expected label"#),
    (r#"sum by ("") (x)"#, r#"1:9: parse error: invalid label name for grouping: """#),
    ("sum by (a b) (x)", r#"1:11: parse error: unexpected identifier "b" in grouping opts, expected "," or ")""#),
    ("sum by (a=b) (x)", r#"1:10: parse error: unexpected "=" in grouping opts, expected "," or ")""#),
    ("sum by (without) (x)", "1:9: parse error: unexpected <without> in grouping opts, expected label"),
    ("sum(x) by a", r#"1:11: parse error: unexpected identifier "a" in grouping opts, expected "(""#),
    ("sum(x) by (a) by (b)", "1:15: parse error: unexpected <by>"),
    ("sum(x) by (a) foo", r#"1:15: parse error: unexpected identifier "foo""#),
    ("sum by (a) (x) by (b)", "1:16: parse error: unexpected <by>"),
    ("sum(x y)", r#"1:7: parse error: unexpected identifier "y" in aggregation"#),
    ("sum((x y))", r#"1:8: parse error: unexpected identifier "y" in aggregation"#),
    ("topk(foo)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1"),
    (r#"topk("a", foo)"#, "1:6: parse error: expected type scalar in aggregation parameter, got string"),
    ("topk(foo, foo)", "1:6: parse error: expected type scalar in aggregation parameter, got instant vector"),
    ("topk(1, foo, 2)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 3"),
    ("count_values(1, foo)", "1:14: parse error: expected type string in aggregation parameter, got scalar"),
    ("count_values(foo)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1"),
    (r#"quantile("0.5", foo)"#, "1:10: parse error: expected type scalar in aggregation parameter, got string"),
    ("sum(foo[5m])", "1:5: parse error: expected type instant vector in aggregation expression, got range vector"),
    (r#"sum("x")"#, "1:5: parse error: expected type instant vector in aggregation expression, got string"),
    ("avg(foo,)", "1:8: parse error: trailing commas not allowed in function call args"),
    ("unknown(foo)", r#"1:1: parse error: unknown function with name "unknown""#),
    ("Rate(foo[5m])", r#"1:1: parse error: unknown function with name "Rate""#),
    ("rate(foo)", r#"1:6: parse error: expected type range vector in call to function "rate", got instant vector"#),
    ("rate(foo[5m], 1)", r#"1:1: parse error: expected 1 argument(s) in call to "rate", got 2"#),
    ("rate()", r#"1:1: parse error: expected 1 argument(s) in call to "rate", got 0"#),
    ("rate(foo[5m],)", "1:13: parse error: trailing commas not allowed in function call args"),
    ("rate(,foo[5m])", r#"1:6: parse error: unexpected ",""#),
    ("rate(foo[5m]", "1:13: parse error: unclosed left parenthesis"),
    ("rate foo", r#"1:6: parse error: unexpected identifier "foo""#),
    ("time(1)", r#"1:1: parse error: expected 0 argument(s) in call to "time", got 1"#),
    ("round()", r#"1:1: parse error: expected at least 1 argument(s) in call to "round", got 0"#),
    ("round(foo, 1, 2)", r#"1:1: parse error: expected at most 2 argument(s) in call to "round", got 3"#),
    ("round(foo, bar)", r#"1:12: parse error: expected type scalar in call to function "round", got instant vector"#),
    (r#"label_replace(foo, "a", "b", "c")"#, r#"1:1: parse error: expected 5 argument(s) in call to "label_replace", got 4"#),
    (r#"label_join(foo, "a")"#, r#"1:1: parse error: expected at least 3 argument(s) in call to "label_join", got 2"#),
    (r#"label_join(foo, "a", "b", 5)"#, r#"1:27: parse error: expected type string in call to function "label_join", got scalar"#),
    ("clamp(foo, 1)", r#"1:1: parse error: expected 3 argument(s) in call to "clamp", got 2"#),
    (r#"abs("x")"#, r#"1:5: parse error: expected type instant vector in call to function "abs", got string"#),
    ("abs(foo[5m])", r#"1:5: parse error: expected type instant vector in call to function "abs", got range vector"#),
    ("histogram_quantile(foo, 0.5)", r#"1:20: parse error: expected type scalar in call to function "histogram_quantile", got instant vector"#),
    ("vector(foo)", r#"1:8: parse error: expected type scalar in call to function "vector", got instant vector"#),
    ("scalar(1)", r#"1:8: parse error: expected type instant vector in call to function "scalar", got scalar"#),
    ("day_of_month(1)", r#"1:14: parse error: expected type instant vector in call to function "day_of_month", got scalar"#),
    ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
    ("1 > bool 1 > 2", "1:12: parse error: comparisons between scalars must use BOOL modifier"),
    ("foo + bool bar", "1:5: parse error: bool modifier can only be used on comparison operators"),
    ("foo and 1", r#"1:1: parse error: set operator "and" not allowed in binary scalar expression"#),
    ("1 or foo", r#"1:1: parse error: set operator "or" not allowed in binary scalar expression"#),
    ("1 unless 2", r#"1:1: parse error: set operator "unless" not allowed in binary scalar expression"#),
    ("foo and bool bar", "1:5: parse error: bool modifier can only be used on comparison operators"),
    (r#"foo == bool "x""#, "1:13: parse error: binary expression must contain only scalar and instant vector types"),
    (r#"foo + "x""#, "1:7: parse error: binary expression must contain only scalar and instant vector types"),
    (r#""x" + "y""#, "1:1: parse error: binary expression must contain only scalar and instant vector types"),
    ("foo + bar[5m]", "1:7: parse error: binary expression must contain only scalar and instant vector types"),
    ("foo[5m] + 1", "1:1: parse error: binary expression must contain only scalar and instant vector types"),
    ("foo + on bar", r#"1:10: parse error: unexpected identifier "bar" in grouping opts, expected "(""#),
    ("foo + on(a", "1:11: parse error: unclosed left parenthesis"),
    ("foo + on(a) group_left", r#"1:23: parse error: unexpected end of input in grouping opts, expected "(""#),
    ("foo + on(a) group_left(a) bar", r#"1:5: parse error: label "a" must not occur in ON and GROUP clause at once"#),
    ("foo + ignoring(a) group_left(a,b c) bar", r#"1:34: parse error: unexpected identifier "c" in grouping opts, expected "," or ")""#),
    ("foo + group_left() bar", "1:7: parse error: unexpected <group_left>"),
    ("foo and on(a) group_left(b) bar", r#"1:1: parse error: no grouping allowed for "and" operation"#),
    ("foo or on(a) group_right() bar", r#"1:1: parse error: no grouping allowed for "or" operation"#),
    ("foo + on(a) 1", "1:1: parse error: vector matching only allowed between instant vectors"),
    ("1 + ignoring(a) foo", "1:1: parse error: vector matching only allowed between instant vectors"),
    ("foo + on(a) on(b) bar", "1:13: parse error: unexpected <on>"),
    ("foo + by(a) bar", r#"1:9: parse error: unexpected "(""#),
    ("foo * on(x) group_left bar baz", r#"1:28: parse error: unexpected identifier "baz""#),
    ("foo fill(0) bar", "1:5: parse error: unexpected <fill>"),
    ("foo + fill(x) bar", r#"1:12: parse error: unexpected identifier "x""#),
    (r#"-"x""#, r#"1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got "string""#),
    ("-foo[5m]", r#"1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got "range vector""#),
    (r#"+"a""#, r#"1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got "string""#),
    ("-", "1:2: parse error: unexpected end of input"),
    ("--", "1:3: parse error: unexpected end of input"),
    ("- -", "1:4: parse error: unexpected end of input"),
    ("foo bool", "1:5: parse error: unexpected <bool>"),
    ("foo by (a)", "1:5: parse error: unexpected <by>"),
    ("foo == == bar", "1:8: parse error: unexpected <op:==>"),
    ("foo ==", "1:7: parse error: unexpected end of input"),
    ("== foo", "1:1: parse error: unexpected <op:==>"),
    ("foo ^ ^ 2", "1:7: parse error: unexpected <op:^>"),
    ("foo atan2", "1:10: parse error: unexpected end of input"),
    ("or foo", r#"1:4: parse error: unexpected identifier "foo""#),
    ("foo or", "1:7: parse error: unexpected end of input"),
    ("on", "1:1: parse error: unexpected <on>"),
    ("bool", "1:1: parse error: unexpected <bool>"),
    ("ignoring", "1:1: parse error: unexpected <ignoring>"),
    ("group_left", "1:1: parse error: unexpected <group_left>"),
    ("offset offset", "1:14: parse error: unexpected end of input in offset, expected number, duration, step(), or range()"),
    ("1 + 2 3", r#"1:7: parse error: unexpected number "3""#),
    ("foo,bar", r#"1:4: parse error: unexpected ",""#),
    ("foo;bar", "1:4: parse error: unexpected character: ';'"),
    (":foo bar", r#"1:6: parse error: unexpected identifier "bar""#),
    (r#"foo{a="b"} 1"#, r#"1:12: parse error: unexpected number "1""#),
    ("NaN NaN", r#"1:5: parse error: unexpected number "NaN""#),
    ("Inf foo", r#"1:5: parse error: unexpected identifier "foo""#),
    (r#""a" "b""#, r#"1:5: parse error: unexpected string "\"b\"""#),
    ("[5m]", r#"1:1: parse error: unexpected "[""#),
    ("foo[5m] offset", "1:15: parse error: unexpected end of input in offset, expected number, duration, step(), or range()"),
    (r#"foo[5m]{a="b"}"#, r#"1:8: parse error: unexpected "{""#),
    (r#"{a="b"}[5m] foo"#, r#"1:13: parse error: unexpected identifier "foo""#),
    ("absent(foo) absent(bar)", r#"1:13: parse error: unexpected identifier "absent""#),
    ("sum(rate(foo[5m])) by (job", "1:27: parse error: unclosed left parenthesis"),
    ("sum by (job) (rate(foo[5m])", "1:28: parse error: unclosed left parenthesis"),
    ("rate(foo[5m:1m][5m])", "1:16: parse error: ranges only allowed for vector selectors"),
    ("min_of(1)", r#"1:1: parse error: expected 2 argument(s) in call to "min_of", got 1"#),
    (r#"max_of(1, "a")"#, r#"1:11: parse error: expected type scalar in call to function "max_of", got string"#),
    ("step(1)", r#"1:1: parse error: expected 0 argument(s) in call to "step", got 1"#),
    ("range(foo)", r#"1:1: parse error: expected 0 argument(s) in call to "range", got 1"#),
    (r#"histogram_quantiles(foo, "q")"#, r#"1:1: parse error: expected at least 3 argument(s) in call to "histogram_quantiles", got 2"#),
    (r#"predict_linear(foo[5m], "x")"#, r#"1:25: parse error: expected type scalar in call to function "predict_linear", got string"#),
    ("quantile_over_time(foo[5m], 0.5)", r#"1:20: parse error: expected type scalar in call to function "quantile_over_time", got range vector"#),
    (r#"label_replace(foo, "a", "b", "c", 1)"#, r#"1:35: parse error: expected type string in call to function "label_replace", got scalar"#),
    (r#"foo{a="b",}[5m:] @ 5 @ 6"#, "1:1: parse error: @ <timestamp> may not be set multiple times"),
    ("# only a comment", "1:1: parse error: no expression found in input"),
    ("((((foo))", "1:10: parse error: unclosed left parenthesis"),
    ("foo[5m]]", "1:8: parse error: unexpected right bracket ']'"),
    ("foo}", "1:4: parse error: unexpected character: '}'"),
    ("foo @ (5)", r#"1:7: parse error: unexpected "(" in @, expected timestamp"#),
    ("foo offset min_of(1m)", r#"1:21: parse error: unexpected ")" in offset, expected number, duration, step(), or range()"#),
    ("foo offset -(5m", "1:16: parse error: unclosed left parenthesis"),
    ("foo[5m:1m] anchored", "1:1: parse error: anchored modifier is not supported for subqueries"),
    ("\n\nfoo\nbar", r#"4:1: parse error: unexpected identifier "bar""#),
    ("foo +\n  bar baz", r#"2:7: parse error: unexpected identifier "baz""#),
    ("sum(\n  rate(foo[5m])\n) by job", r#"3:6: parse error: unexpected identifier "job" in grouping opts, expected "(""#),
    ("\tfoo bar", r#"1:6: parse error: unexpected identifier "bar""#),
    (r#"foo{a="é"} é"#, "1:13: parse error: unexpected character: 'é'"),
    ("é", "1:1: parse error: unexpected character: 'é'"),
    (r#"foo{é="a"}"#, "1:5: parse error: unexpected character inside braces: 'é'"),
    ("foo[5m] é", "1:9: parse error: unexpected character: 'é'"),
    (r#"a"b"#, "1:2: parse error: unterminated quoted string"),
    ("foo # x\n)", "2:2: parse error: unexpected right parenthesis ')'"),
    (r#""\U00110000""#, "1:1: parse error: escape sequence is an invalid Unicode code point"),
    ("foo\u{a0}bar", r#"1:4: parse error: unexpected character: '\u00a0'"#),
    ("foo{a=\"\\\n\"}", "1:7: parse error: unknown escape sequence U+000A"),
    ("# only a comment\n", "1:1: parse error: no expression found in input"),
    (" ", "1:1: parse error: no expression found in input"),
    ("\n", "1:1: parse error: no expression found in input"),
];

/// Without feature flags, where that differs.
#[rustfmt::skip]
const SERVER_ERRORS: &[(&str, &str)] = &[
    ("limitk(1, foo)", "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions"),
    ("limit_ratio(0.5, foo)", "1:1: parse error: limit_ratio() is experimental and must be enabled with --enable-feature=promql-experimental-functions"),
    (r#"sort_by_label(foo, "a")"#, r#"1:1: parse error: function "sort_by_label" is not enabled"#),
    ("info(foo)", r#"1:1: parse error: function "info" is not enabled"#),
    ("mad_over_time(foo[5m])", r#"1:1: parse error: function "mad_over_time" is not enabled"#),
    ("foo + fill(0) bar", "1:1: parse error: binop fill modifiers are experimental and not enabled"),
    ("foo anchored", "1:1: parse error: anchored modifier is experimental and not enabled"),
    ("foo[5m] smoothed", "1:1: parse error: smoothed modifier is experimental and not enabled"),
    ("rate(foo[5m] anchored)", "1:6: parse error: anchored modifier is experimental and not enabled"),
    ("min_of(1)", r#"1:1: parse error: function "min_of" is not enabled"#),
    (r#"max_of(1, "a")"#, r#"1:1: parse error: function "max_of" is not enabled"#),
    ("step(1)", r#"1:1: parse error: function "step" is not enabled"#),
    ("start()", r#"1:1: parse error: function "start" is not enabled"#),
    ("range(foo)", r#"1:1: parse error: function "range" is not enabled"#),
    (r#"histogram_quantiles(foo, "q")"#, r#"1:1: parse error: function "histogram_quantiles" is not enabled"#),
    ("foo[5m:1m] anchored", "1:1: parse error: anchored modifier is experimental and not enabled"),
];

fn check(options: &ParseOptions, table: &[(&str, &str)]) {
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(query, expected)| {
            let got = match parse(query, options) {
                Ok(expr) => format!("no error: {expr}"),
                Err(error) => error.to_string(),
            };
            (got != *expected).then(|| format!("{query:?}\n  expected {expected}\n  got      {got}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

#[test]
fn messages_are_those_of_prometheus() {
    assert!(ERRORS.len() >= 250);
    check(&ParseOptions::all(), ERRORS);
}

#[test]
fn messages_without_feature_flags_are_those_of_prometheus() {
    check(&ParseOptions::default(), SERVER_ERRORS);
}

#[test]
fn a_lone_selector_is_nothing_else() {
    assert_eq!(parse_selector(r#"up{job=~"a|b"}"#).map(|matchers| matchers.len()), Ok(2));
    assert_eq!(parse_selector("{}").map(|matchers| matchers.len()), Ok(0));
    for (text, expected) in [
        ("up[5m]", r#"1:3: parse error: unexpected "[""#),
        ("up offset 5m", "1:4: parse error: unexpected <offset>"),
        ("sum(up)", r#"1:4: parse error: unexpected "(""#),
        ("1", r#"1:1: parse error: unexpected number "1""#),
        ("{a", r#"1:3: parse error: unexpected end of input inside braces"#),
    ] {
        assert_eq!(parse_selector(text).map_err(|error| error.to_string()), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn durations_have_messages() {
    assert_eq!(parse_duration_ms("1h30m"), Ok(5_400_000));
    for (text, expected) in [
        ("", "empty duration string"),
        ("5", r#"not a valid duration string: "5""#),
        ("5mm", r#"unknown unit "mm" in duration "5mm""#),
        ("-5m", r#"not a valid duration string: "-5m""#),
        ("1m1h", r#"not a valid duration string: "1m1h""#),
        ("300y", "duration out of range"),
    ] {
        assert_eq!(parse_duration_ms(text), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn deep_nesting_is_refused_and_long_queries_are_not() {
    let refused = |query: String| {
        let error = parse(&query, &ParseOptions::all()).expect_err("too deep").to_string();
        assert!(error.contains("nested deeper"), "{error}");
    };
    let accepted = |query: String| {
        parse(&query, &ParseOptions::all()).unwrap_or_else(|error| panic!("{error}"));
    };
    for (open, inner, close) in [("(", "1", ")"), ("abs(", "x", ")"), ("sum by (a) (", "x", ")")] {
        accepted(format!("{}{inner}{}", open.repeat(200), close.repeat(200)));
        refused(format!("{}{inner}{}", open.repeat(20_000), close.repeat(20_000)));
        refused(open.repeat(200_000));
    }
    refused(format!("{}x", "- ".repeat(20_000)));
    refused(format!("x{}", "[5m:]".repeat(20_000)));
    refused(format!("x{}", " + x".repeat(20_000)));
    refused(format!("x{}", " ^ x".repeat(20_000)));
    refused(format!("x[{}1]", "-".repeat(20_000) + "step()+"));
    accepted(format!("x{}", " + x".repeat(200)));
    accepted(format!("sum by ({}) (x)", vec!["label"; 20_000].join(",")));
    accepted(format!(r#"{{a="{}"}}"#, "x".repeat(1_000_000)));
    accepted(format!("x{}", " or x * 2 == bool 5".repeat(60)));
}

/// A parser that tries an operand twice at each level takes 2^n.
#[test]
fn time_is_linear_in_the_text() {
    let start = std::time::Instant::now();
    for query in [
        format!("{}1", "sum(x) by (a) + -(".repeat(150)),
        "foo[-(-(".repeat(80),
        format!("x offset {}", "-(".repeat(200)),
        format!("{}x y{}", "sum(".repeat(200), ")".repeat(200)),
        format!("{}x @ y{}", "rate(x,".repeat(200), ")".repeat(200)),
    ] {
        assert!(parse(&query, &ParseOptions::all()).is_err());
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
}
