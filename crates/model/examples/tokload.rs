use model::tokenizer::*;
use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let mut b = f64::MAX;
    for _ in 0..20 {
        let t;
        if a[1].ends_with("gguf") {
            t = Instant::now();
            std::hint::black_box(Tokenizer::open(a[1].as_ref()).unwrap());
        } else {
            let j = std::fs::read(&a[1]).unwrap();
            t = Instant::now();
            std::hint::black_box(Tokenizer::from_tokenizer_json(&j, SpecialNames::default()).unwrap());
        }
        b = b.min(t.elapsed().as_secs_f64());
    }
    println!("{:.1} ms", b * 1e3);
}
