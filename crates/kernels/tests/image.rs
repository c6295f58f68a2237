//! Packed weights that are kept: mapped again they give the same bits, and only the right ones are taken.

mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kernels::DType;
use kernels::backend::{KvType, Logits, ProgramOptions, Span, States, run};
use kernels::cpu::{CpuBackend, ImageEvent, ImageFile};
use kernels::plan::{
    Attention, Bytes, DecoderPlan, FeedForward, Layer, Linear, Mixture, NormKind, Rope, RopeStyle, Router, RouterScore,
    Scales, SharedExpert, Source, Weight,
};
use kernels::simd::Tier;
use support::{Random, random_rows};

const VOCAB: usize = 70_000;
const HIDDEN: usize = 256;

/// Weights that count how often they are read, by the number of their releases after packing.
struct Counted {
    bytes: Vec<u8>,
    packed: Arc<AtomicUsize>,
}

impl Source for Counted {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn release(&self, _range: std::ops::Range<usize>) {
        self.packed.fetch_add(1, Ordering::Relaxed);
    }
}

/// A decoder of one layer, a mixture of experts, with a large output matrix.
fn plan(packed: &Arc<AtomicUsize>) -> DecoderPlan {
    let mut random = Random(7);
    let mut linear = |dtype: &str, rows: usize, cols: usize| {
        let dtype = DType::from_name(dtype).unwrap();
        let bytes = random_rows(dtype, rows, cols, &mut random);
        let len = bytes.len();
        let data = Bytes::new(Arc::new(Counted { bytes, packed: packed.clone() }), 0..len).unwrap();
        Linear::new(Weight { name: format!("{rows}x{cols}"), dtype, rows, cols, data }, None)
    };
    let projections =
        [linear("Q4_0", 64, HIDDEN), linear("Q4_0", 32, HIDDEN), linear("Q6_K", 32, HIDDEN), linear("F32", HIDDEN, 64)];
    let mut expert =
        |_| FeedForward::plain([linear("Q4_K", 512, HIDDEN), linear("Q5_1", 512, HIDDEN), linear("Q8_0", HIDDEN, 512)]);
    let experts: Vec<_> = (0..3).map(&mut expert).collect();
    let shared = Some(SharedExpert { ffn: expert(3), gate: None });
    let scores = linear("F32", 3, HIDDEN);
    let router = Router {
        score: RouterScore::Softmax,
        top_k: 2,
        normalized: true,
        scale: 1.0,
        choice_bias: None,
        linear: scores,
    };
    let (attention, norm) = (Attention::plain(2, 1, 32, projections), vec![0.1; HIDDEN]);
    let layer = Layer::plain(norm.clone(), attention, norm, Mixture { router, experts, shared });
    let head = linear("F16", VOCAB, HIDDEN);
    DecoderPlan {
        hidden: HIDDEN,
        vocab: VOCAB,
        context: 64,
        norm: NormKind::Rms,
        norm_eps: 1e-5,
        scales: Scales::default(),
        ropes: vec![Rope { style: RopeStyle::Half, inv_freq: vec![1.0, 0.1], attention_factor: 1.0, long: None }],
        embedding: head.weight.clone(),
        inputs: None,
        layers: vec![layer],
        output_norm: vec![0.1; HIDDEN],
        head,
    }
}

/// Runs the plan, and gives logits, the number of packed slices, and whether an image was begun and failed.
fn logits(path: &Path, source: &str, keep: bool) -> (Vec<f32>, usize, (bool, bool)) {
    let packed = Arc::new(AtomicUsize::new(0));
    let events = Arc::new(Mutex::new((false, false)));
    let seen = events.clone();
    let told = move |event| match event {
        ImageEvent::Keeping(bytes) => {
            assert!(bytes > VOCAB * HIDDEN * 2);
            seen.lock().unwrap().0 = true;
        }
        ImageEvent::Failed(_) => seen.lock().unwrap().1 = true,
    };
    let image = ImageFile { path: path.to_owned(), source: source.to_owned(), keep, told: Arc::new(told) };
    let backend = CpuBackend::new(Tier::detect().unwrap()).unwrap();
    let options = ProgramOptions { kv: KvType::F16, threads: 2, bf16: false };
    let plan = plan(&packed);
    let mut program = backend.compile_with_image(plan, &options, Some(&image), &mut |_, _| ()).unwrap();
    program.reserve(1).unwrap();
    let span = Span {
        tokens: &[5, 69_999, 17],
        position: 0,
        reserved: 64,
        pages: &[0],
        states: States::default(),
        logits: Logits::All,
    };
    let found = run(&mut *program, &[span]).unwrap().logits;
    drop(program);
    let events = *events.lock().unwrap();
    (found, packed.load(Ordering::Relaxed), events)
}

#[test]
fn a_kept_image_is_mapped_and_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.panels");
    let (expected, slices, events) = logits(&path, "a", false);
    assert!(slices > 8 && events == (false, false) && !path.exists());

    let (first, packed, events) = logits(&path, "a", true);
    assert!(first == expected && packed == slices && events == (true, false));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    for keep in [true, false] {
        let (mapped, packed, events) = logits(&path, "a", keep);
        assert!(mapped == expected && packed == 0 && events == (false, false));
    }

    // Other weights under the same name are packed anew, and so is what is cut short or damaged in its header.
    let (_, packed, events) = logits(&path, "b", true);
    assert!(packed == slices && events == (true, false));
    let whole = fs::read(&path).unwrap();
    for damage in [&whole[..whole.len() - 1], &[b"x", &whole[1..]].concat()[..], &[]] {
        fs::write(&path, damage).unwrap();
        let (found, packed, _) = logits(&path, "b", false);
        assert!(found == expected && packed == slices);
    }
}

#[test]
fn where_no_image_can_be_kept_the_program_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, ..) = logits(&folder.path().join("x"), "a", false);
    let (found, _, events) = logits(&folder.path().join("no-such-folder/model.panels"), "a", true);
    assert!(found == expected && events == (true, true));

    // Another process is at it.
    let part = fs::File::create(folder.path().join("model.part")).unwrap();
    part.lock().unwrap();
    let (found, _, events) = logits(&folder.path().join("model.panels"), "a", true);
    assert!(found == expected && events == (true, false));
    assert!(!folder.path().join("model.panels").exists());
}
