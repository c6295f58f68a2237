use proptest::prelude::*;

use super::*;

fn remote(scheme: Scheme, location: &str) -> Reference {
    Reference::Remote { scheme, location: location.to_owned() }
}

fn name(repository: &str, tag: &str) -> Reference {
    Reference::Name(StoreName { repository: repository.to_owned(), tag: tag.to_owned() })
}

#[test]
fn every_form_of_the_grammar() {
    let path = |text: &str| Reference::Path(text.into());
    for (text, expected) in [
        ("smollm2", name("smollm2", "latest")),
        ("SmolLM2", name("smollm2", "latest")),
        ("qwen3:0.6b-q4_k_m", name("qwen3", "0.6b-q4_k_m")),
        ("model.gguf", path("model.gguf")),
        ("MODEL.GGUF", path("MODEL.GGUF")),
        ("models/qwen3", path("models/qwen3")),
        ("./s3:a/b", path("./s3:a/b")),
        ("..", path("..")),
        ("C:/models/a.gguf", path("C:/models/a.gguf")),
        ("hf:Qwen/Qwen3-0.6B@main/model.safetensors", remote(Scheme::Hf, "Qwen/Qwen3-0.6B@main/model.safetensors")),
        ("ollama:qwen3:0.6b", remote(Scheme::Ollama, "qwen3:0.6b")),
        ("oci:localhost:5000/a/b:c", remote(Scheme::Oci, "localhost:5000/a/b:c")),
        ("PyPI:p==1.0/p/m.gguf", remote(Scheme::Pypi, "p==1.0/p/m.gguf")),
        ("file:m.gguf", remote(Scheme::File, "m.gguf")),
    ] {
        assert_eq!(Reference::parse(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn what_fits_no_form_is_refused() {
    for (text, problem) in [
        ("", "a name is"),
        ("-x", "a name is"),
        ("two words", "a name is"),
        ("modèle", "a name is"),
        ("a:", "a tag is"),
        ("a:b:c", "a tag is"),
        ("a:-b", "a tag is"),
        ("hf:", "nothing follows"),
        ("hf", "a scheme cannot"),
        ("a\nb", "control"),
        ("https://example.org/m.gguf", "is no scheme"),
        ("s3:bucket/m.gguf", "is no scheme"),
    ] {
        let error = Reference::parse(text).unwrap_err().to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
}

#[test]
fn names_of_files() {
    for (file, expected) in [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct:q4_1"),
        ("Qwen3-0.6B-Q4_K_M.gguf", "qwen3-0.6b:q4_k_m"),
        ("model.BF16.GGUF", "model:bf16"),
        ("phi-4.gguf", "phi-4:latest"),
        ("my model (1).gguf", "my-model--1-:latest"),
        ("q4_0.gguf", "q4_0:latest"),
        ("---.gguf", "model:latest"),
        ("é.gguf", "model:latest"),
        ("hf.gguf", "hf-model:latest"),
        ("a.gguf.gguf", "a:latest"),
    ] {
        assert_eq!(StoreName::of_file(file).to_string(), expected, "{file}");
    }
}

proptest! {
    #[test]
    fn what_parses_reads_back_as_itself(text in "\\PC*") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
        }
    }

    #[test]
    fn references_with_a_scheme_keep_their_location(scheme in 0..5usize, location in "[!-~]{1,40}") {
        let text = format!("{}:{location}", Scheme::ALL[scheme]);
        prop_assert_eq!(Reference::parse(&text).unwrap(), remote(Scheme::ALL[scheme], &location));
    }

    #[test]
    fn valid_names_parse(repository in "[a-z0-9][a-z0-9._-]{0,40}", tag in "[a-z0-9_][a-z0-9._-]{0,40}") {
        let text = format!("{repository}:{tag}");
        let is_remote = Scheme::ALL.iter().any(|s| s.as_str() == repository);
        prop_assume!(!is_remote && !repository.ends_with(".gguf") && !tag.ends_with(".gguf"));
        prop_assert_eq!(Reference::parse(&text).unwrap(), name(&repository, &tag));
    }

    #[test]
    fn a_name_made_of_any_file_is_a_name(file in "\\PC{0,200}") {
        let made = StoreName::of_file(&file);
        prop_assert_eq!(StoreName::parse(&made.to_string()).unwrap(), made);
    }
}
