//! What shapes an answer: flags give the first values, `/set` changes them in a chat.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;

use model::sampler::SamplingParams;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub sampling: SamplingParams,
    /// Tokens of an answer at most; `None` fills the context.
    pub max_tokens: Option<usize>,
    /// Text that ends the answer; it is not part of it.
    pub stop: Vec<String>,
    pub system: Option<String>,
}

/// One row of [`SETTINGS`].
pub struct Setting {
    /// As `/set` and, behind two dashes, the command line know it.
    pub name: &'static str,
    pub help: &'static str,
    set: fn(&mut Settings, &str) -> Result<(), String>,
    get: fn(&Settings) -> String,
}

/// Everything that `/set` can change.
pub const SETTINGS: [Setting; 11] = [
    Setting {
        name: "system",
        help: "instructions that stand before the conversation; `none` for none",
        set: |s, text| put(&mut s.system, (!is_none(text)).then(|| text.to_owned())),
        get: |s| s.system.clone().unwrap_or_else(none),
    },
    Setting {
        name: "temperature",
        help: "how freely to choose; 0 takes the most likely token",
        set: |s, text| put(&mut s.sampling.temperature, number(text)?),
        get: |s| s.sampling.temperature.to_string(),
    },
    Setting {
        name: "top-k",
        help: "choose among this many of the most likely tokens; 0 for all",
        set: |s, text| put(&mut s.sampling.top_k, number(text)?),
        get: |s| s.sampling.top_k.to_string(),
    },
    Setting {
        name: "top-p",
        help: "choose among the most likely tokens up to this probability; 1 for all",
        set: |s, text| put(&mut s.sampling.top_p, number(text)?),
        get: |s| s.sampling.top_p.to_string(),
    },
    Setting {
        name: "min-p",
        help: "drop tokens less likely than this share of the likeliest; 0 for none",
        set: |s, text| put(&mut s.sampling.min_p, number(text)?),
        get: |s| s.sampling.min_p.to_string(),
    },
    Setting {
        name: "seed",
        help: "key of the random draws; `random` for a new one",
        set: |s, text| put(&mut s.sampling.seed, if text == "random" { random_seed() } else { number(text)? }),
        get: |s| s.sampling.seed.to_string(),
    },
    Setting {
        name: "max-tokens",
        help: "tokens of an answer at most; `none` fills the context",
        set: |s, text| put(&mut s.max_tokens, if is_none(text) { None } else { Some(number(text)?) }),
        get: |s| s.max_tokens.map_or_else(none, |n| n.to_string()),
    },
    Setting {
        name: "stop",
        help: "text that ends an answer; `none` for none",
        set: |s, text| put(&mut s.stop, if is_none(text) { Vec::new() } else { vec![unescape(text)] }),
        get: |s| if s.stop.is_empty() { none() } else { format!("{:?}", s.stop) },
    },
    Setting {
        name: "repeat-penalty",
        help: "divides the logits of recent tokens; 1 changes nothing",
        set: |s, text| put(&mut s.sampling.repetition_penalty, number(text)?),
        get: |s| s.sampling.repetition_penalty.to_string(),
    },
    Setting {
        name: "presence-penalty",
        help: "subtracted from the logit of each recent token; 0 changes nothing",
        set: |s, text| put(&mut s.sampling.presence_penalty, number(text)?),
        get: |s| s.sampling.presence_penalty.to_string(),
    },
    Setting {
        name: "frequency-penalty",
        help: "the same for each time that it occurred; 0 changes nothing",
        set: |s, text| put(&mut s.sampling.frequency_penalty, number(text)?),
        get: |s| s.sampling.frequency_penalty.to_string(),
    },
];

impl Settings {
    /// Sets the setting `name`, spelled with dashes or underscores, from text; on an error nothing has changed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name = name.trim_start_matches('-').replace('_', "-").to_ascii_lowercase();
        let Some(setting) = SETTINGS.iter().find(|s| s.name == name) else {
            let names: Vec<_> = SETTINGS.iter().map(|s| s.name).collect();
            return Err(format!("no setting {name:?}; there are {}", names.join(", ")));
        };
        let mut changed = self.clone();
        (setting.set)(&mut changed, value).map_err(|problem| format!("{name}: {problem}"))?;
        changed.sampling.validate().map_err(|error| error.to_string())?;
        *self = changed;
        Ok(())
    }

    /// Every setting with its value as text.
    pub fn list(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        SETTINGS.iter().map(|setting| (setting.name, (setting.get)(self)))
    }
}

/// A seed that nobody can foresee, short enough to be typed and exact in every JSON reader.
pub fn random_seed() -> u64 {
    // The standard library keys each of its hash maps from the system's random source.
    RandomState::new().build_hasher().finish() & 0xffff_ffff
}

fn put<T>(place: &mut T, value: T) -> Result<(), String> {
    *place = value;
    Ok(())
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("expected a number, found {text:?}"))
}

fn is_none(text: &str) -> bool {
    text == "none"
}

fn none() -> String {
    "none".to_owned()
}

/// `\n` and `\t` as a person types them.
fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_takes_a_value_and_shows_it() {
        let mut settings = Settings::default();
        for setting in &SETTINGS {
            settings.set(setting.name, "1").unwrap_or_else(|e| panic!("{e}"));
        }
        for (name, value) in settings.list() {
            assert_eq!(value.trim_matches(['[', ']', '"']), "1", "{name}");
        }
    }

    #[test]
    fn names_are_taken_in_any_spelling() {
        let mut settings = Settings::default();
        settings.set("TOP_K", "7").unwrap();
        settings.set("--max-tokens", "9").unwrap();
        assert_eq!((settings.sampling.top_k, settings.max_tokens), (7, Some(9)));
        settings.set("max-tokens", "none").unwrap();
        assert_eq!(settings.max_tokens, None);
    }

    #[test]
    fn a_refused_value_changes_nothing_and_is_named() {
        let mut settings = Settings::default();
        let before = settings.clone();
        assert!(settings.set("temperature", "hot").unwrap_err().contains("found \"hot\""));
        assert!(settings.set("top-p", "2").unwrap_err().contains("at most 1"));
        assert!(settings.set("warmth", "2").unwrap_err().contains("temperature"));
        assert_eq!(settings, before);
    }
}
