//! Prompts equal those of Jinja2 as transformers sets it up, made by `scripts/oracle/chat_templates.py`.

mod support;

use std::fs;

use model::template::{ChatInput, ChatTemplate, TemplateError};
use serde_json::{Value, json};

/// Renders the kept conversations and compares with `expected.json`, where null says that rendering fails.
fn check(name: &str, source: &str) {
    let read = |file: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(support::data("template").join(file)).unwrap()).unwrap()
    };
    let (cases, expected) = (read("cases.json"), read("expected.json"));
    let template = ChatTemplate::new(name, source).unwrap();
    let (cases, expected) = (cases.as_array().unwrap(), expected[name].as_array().unwrap());
    assert_eq!(cases.len(), expected.len());
    for (case, expected) in cases.iter().zip(expected) {
        let rendered = template.render(&input(case));
        let case = &case["name"];
        match (rendered, expected.as_str()) {
            (Ok(rendered), Some(expected)) => assert_eq!(rendered, expected, "{name}: {case}"),
            (Err(_), None) => {}
            (rendered, expected) => panic!("{name}: {case}: expected {expected:?}, rendered {rendered:?}"),
        }
    }
}

fn input(case: &Value) -> ChatInput<'_> {
    ChatInput {
        messages: &case["messages"],
        tools: case.get("tools"),
        add_generation_prompt: case["add_generation_prompt"] == true,
        bos_token: case["bos_token"].as_str(),
        eos_token: case["eos_token"].as_str(),
        extra: case["extra"].as_object(),
        now: case["now"].as_i64().unwrap_or(0),
    }
}

#[test]
fn features() {
    check("features", &fs::read_to_string(support::data("template/features.jinja")).unwrap());
}

#[test]
fn smollm2() {
    let files = formats::TokenizerFiles::open(&support::smollm2()).unwrap();
    check("smollm2", files.chat_templates().unwrap().default_template().unwrap());
}

#[test]
fn qwen3_llama3_gemma3() {
    for name in ["qwen3", "llama3", "gemma3"] {
        let config = fs::read_to_string(support::npm_tokenizer(name).join("tokenizer_config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        check(name, config["chat_template"].as_str().unwrap());
    }
}

/// Where Jinja2 fails on a way of Python and a sensible prompt comes out here: a template, and what it writes.
const RENDERED_ALL_THE_SAME: [(&str, &str); 1] = [("llama-cpp-deepseek-r1", "what `map` gives, as JSON")];

/// The templates of llama.cpp's source, with and without tools, in several turns, with thoughts and odd roles.
/// `many_expected.json` has, by template and case, the number of bytes of the prompt and their CRC-32, or null.
#[test]
fn templates_of_llama_cpp() {
    let read = |file: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(support::data("template").join(file)).unwrap()).unwrap()
    };
    let (cases, expected) = (read("many_cases.json"), read("many_expected.json"));
    let (cases, expected) = (cases.as_array().unwrap(), expected.as_object().unwrap());
    let folder = support::llama_cpp_models().join("templates");
    let (mut prompts, mut refusals, mut wrong) = (0, 0, Vec::new());
    for (name, expected) in expected {
        let source = fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        let template = ChatTemplate::new(name, &source).unwrap();
        let expected = expected.as_array().unwrap();
        assert_eq!(cases.len(), expected.len());
        for (case, expected) in cases.iter().zip(expected) {
            let rendered = template.render(&input(case));
            let digest = |text: &String| format!("{}:{:08x}", text.len(), support::crc32(text.as_bytes()));
            match (rendered.as_ref().map(digest), expected.as_str()) {
                (Ok(digest), Some(expected)) if digest == expected => prompts += 1,
                (Err(_), None) => refusals += 1,
                (Ok(_), None) if RENDERED_ALL_THE_SAME.iter().any(|(other, _)| other == name) => refusals += 1,
                (_, expected) => wrong.push(format!("{name}: {}: expected {expected:?}, {rendered:?}", case["name"])),
            }
        }
    }
    assert!(wrong.is_empty(), "{} prompts:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!((expected.len(), prompts, refusals), (70, 1792, 308));
    let templates = fs::read_dir(&folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "jinja"));
    assert_eq!(templates.count(), expected.len());
}

fn render(source: &str) -> Result<String, TemplateError> {
    ChatTemplate::new("test", source)?.render(&input(&json!({"messages": [{"role": "user", "content": "x"}]})))
}

#[test]
fn errors_name_the_template_and_the_line() {
    let error = render("a\nb\n{{ messages.x.y }}").unwrap_err().to_string();
    assert!(error.starts_with("chat template test, line 3: "), "{error}");
    let error = render("a\n{% if %}").unwrap_err().to_string();
    assert!(error.starts_with("chat template test, line 2: "), "{error}");
    let error = render("{{ strftime_now('%Q') }}").unwrap_err().to_string();
    assert!(error.contains("directive %Q is not known"), "{error}");
}

#[test]
fn refusals_keep_their_words() {
    let refused = render("{{ raise_exception('Only one message, please.') }}").unwrap_err();
    assert!(
        matches!(&refused, TemplateError::Refused { message, .. } if message == "Only one message, please."),
        "{refused}"
    );
}

#[test]
fn steps_and_output_are_bounded() {
    let endless = render("{% for a in range(9999) %}{% for b in range(9999) %}{% set c = b %}{% endfor %}{% endfor %}");
    assert!(matches!(endless, Err(TemplateError::TooManySteps { .. })), "{endless:?}");
    let long = render("{% for a in range(999) %}{{ 'x' * 1000000 }}{% endfor %}");
    assert!(matches!(long, Err(TemplateError::TooLong { .. })), "{long:?}");
}

#[test]
fn memory_is_bounded_whatever_grows() {
    let cases = [
        "{% set ns = namespace(s='x') %}{% for a in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for a in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% macro m(s, n) %}{% if n %}{{ m(s ~ s, n - 1) }}{% endif %}{% endmacro %}{{ m('x', 40) }}",
        "{% set l = ['x' * 9999] * 9999 %}{{ l | join }}",
        "{{ ('x' * 9999) | replace('x', 'x' * 9999) }}",
        "{{ ('x' * 9999).replace('x', 'x' * 9999) }}",
        "{{ 'x' * 99999999 }}",
        "{% set t = (1, 2) * 50000000 %}",
        "{{ [1] | batch(999999999, 'x') }}",
        "{{ 'a\nb' | indent(width=99999999) }}",
        "{% set ns = namespace(l=[1]) %}{% for a in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    ];
    for source in cases {
        let rendered = render(source);
        assert!(matches!(rendered, Err(TemplateError::TooLong { .. })), "{source}: {rendered:?}");
    }
    for (source, words) in [
        ("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", "a namespace inside another value"),
        ("{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}", "a namespace inside another value"),
        (
            "{% set ns = namespace(l=[]) %}{% for a in range(90000) %}{% set ns.l = [ns.l] %}{% endfor %}",
            "nested too deep",
        ),
        ("{{ '%99999999s' | format('a') }}", "widths above 999"),
        (&format!("{{# {} #}}", "x".repeat(1 << 18)), "expected at most 262144 bytes"),
    ] {
        let error = render(source).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn what_python_refuses_is_refused() {
    for source in ["{% for x in none %}{% endfor %}", "{{ missing[1:] }}", "{{ 'a'[::0] }}"] {
        assert!(matches!(render(source), Err(TemplateError::Failed { .. })), "{source}");
    }
}

/// The checks change no result: these are what Jinja2 gives.
#[test]
fn operators_and_calls_keep_their_meaning() {
    for (source, expected) in [
        ("{{ 2 + 3 * 4 ** 2 }} {{ -2 * 3 }} {{ 7 - 2 * 3 }} {{ 2 ** 3 * 2 }}", "50 -6 1 16"),
        (
            "{{ 1 + 2 }} {{ 1 + 0.5 }} {{ true + 1 }} {{ [1] + ['b'] }} {{ (1,) + (2,) }} {{ 'a' + 'b' }}",
            "3 1.5 2 [1, 'b'] (1, 2) ab",
        ),
        ("{{ 2.5 * 2 }} {{ true * 3 }} {{ 8 / 2 * 3 }} {{ 7 // 2 * 2 }}", "5.0 3 12.0 6"),
        ("{{ 'ab' * 2 }} {{ 2 * 'ab' }} {{ [1, 'b'] * 2 }} {{ 'x' * 0 }}|", "abab abab [1, 'b', 1, 'b'] |"),
        ("{{ 1 ~ 'b' ~ 2.0 }} {{ [1] ~ '' }} {{ 'a' ~ 1 + 2 if false else 'a' ~ (1 + 2) }}", "1b2.0 [1] a3"),
        ("{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(*[1], b=2 * 3) }}", "1216"),
        ("{% macro m() %}{{ caller('x') }}{% endmacro %}{% call(y) m() %}<{{ y * 2 }}>{% endcall %}", "<xx>"),
        ("{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }},{% endfor %}", "1,2,3,,,"),
        (
            "{% set x %}a{{ 1 }}{% endset %}{{ x }}{% with y = x * 2 %}{{ y }}{% endwith %}{{ y is defined }}",
            "a1a1a1False",
        ),
        ("{% for a in [] %}{{ a }}{% else %}none{% endfor %}{{ 'yes' if 0 or 2 * 0 or 1 else 'no' }}", "noneyes"),
        ("{{ ['a', 'b'] | join(', ') }} {{ ', '.join(['a', 'b']) }} {{ 'aXa' | replace('X', '-') }}", "a, b a, b a-a"),
        (
            "{{ ''[::-1] }}{{ [][::-1] }}{{ 'añb'[::-1] }}{{ [1, 2, 3][-2:] }}{{ none[1:] }}{{ (1, 2)[:1] }}",
            "[]bña[2, 3](1,)",
        ),
        ("{{ '<' | safe + '<' + '>' }}{{ '<' + '&' | safe }}{{ '<' | safe ~ '<' }}", "<&lt;&gt;&lt;&<<"),
        ("{{ 'a\n\nb\n' | indent(2, true) }}|{{ 'a\rb' | indent('> ', blank=true) }}", "  a\n\n  b\n|a\n> b"),
        ("{% for l in range(5) | batch(2, 'x') %}{{ l }}{% endfor %}", "[0, 1][2, 3][4, 'x']"),
    ] {
        assert_eq!(render(source).unwrap(), expected, "{source}");
    }
}
