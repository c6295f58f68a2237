//! Older spellings in `config.json`, which most of mlx-lm reads: transformers 5 has `rope_parameters` and `num_local_experts`,
//! those before the keys beside them.

use serde_json::{Map, Value};

const PARAMETERS: &str = "rope_parameters";
/// What the older spelling can say.
const TYPES: [&str; 6] = ["default", "linear", "dynamic", "llama3", "yarn", "longrope"];

/// Adds the older spellings where the file has the newer alone.
pub(super) fn add(config: &mut Map<String, Value>) {
    if let Some(text) = config.get_mut("text_config").and_then(Value::as_object_mut) {
        add(text);
    }
    // Theirs is beside the language model's settings.
    let vocab = config.get("text_config").and_then(|text| text.get("vocab_size")).cloned();
    set_missing(config, "vocab_size", vocab);
    let experts = config.get("num_local_experts").cloned();
    set_missing(config, "num_experts", experts);
    if let Some(kind) = config.get("rope_scaling").and_then(|scaling| scaling.get("rope_type")).cloned()
        && let Some(scaling) = config.get_mut("rope_scaling").and_then(Value::as_object_mut)
    {
        set_missing(scaling, "type", Some(kind));
    }
    let Some(parameters) = config.get(PARAMETERS).and_then(Value::as_object).cloned() else { return };
    let of = |layers: &str| parameters.get(layers).and_then(Value::as_object);
    let full = of("full_attention").unwrap_or(&parameters);
    let kind = full.get("rope_type").and_then(Value::as_str).unwrap_or("default");
    if !TYPES.contains(&kind) {
        return;
    }
    let mut add = |key: &str, value: Option<Value>| set_missing(config, key, value);
    add("rope_theta", full.get("rope_theta").cloned());
    add("partial_rotary_factor", full.get("partial_rotary_factor").cloned());
    add("rope_local_base_freq", of("sliding_attention").and_then(|sliding| sliding.get("rope_theta")).cloned());
    if kind != "default" {
        let mut scaling = full.clone();
        scaling.remove("rope_theta");
        scaling.insert("type".to_owned(), kind.into());
        add("rope_scaling", Some(Value::Object(scaling)));
    }
}

fn set_missing(config: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    if let Some(value) = value.filter(|_| config.get(key).is_none_or(Value::is_null)) {
        config.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn added(mut config: Value) -> Value {
        add(config.as_object_mut().unwrap());
        config
    }

    #[test]
    fn keys_are_added_where_they_are_missing() {
        let linear = json!({ "rope_type": "linear", "factor": 8.0, "rope_theta": 1e6 });
        let by_layer = json!({ "full_attention": linear, "sliding_attention": { "rope_theta": 1e4 } });
        let found = added(json!({ "text_config": { "rope_parameters": by_layer }, "rope_scaling": null }));
        let text = json!({
            "rope_parameters": by_layer,
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "rope_scaling": { "rope_type": "linear", "type": "linear", "factor": 8.0 },
        });
        assert_eq!(found, json!({ "text_config": text, "rope_scaling": null }));

        let plain = json!({ "rope_type": "default", "rope_theta": 1e5, "partial_rotary_factor": 0.5 });
        let found = added(json!({ "rope_parameters": plain, "rope_theta": 5.0, "num_local_experts": 8 }));
        let both = json!({ "rope_parameters": plain, "rope_theta": 5.0, "partial_rotary_factor": 0.5,
            "num_local_experts": 8, "num_experts": 8 });
        assert_eq!(found, both);
    }

    #[test]
    fn what_the_older_spelling_cannot_say_is_left() {
        let config =
            json!({ "rope_parameters": { "full_attention": { "rope_type": "proportional", "rope_theta": 1e6 } } });
        assert_eq!(added(config.clone()), config);
    }
}
