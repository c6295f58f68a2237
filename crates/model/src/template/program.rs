//! Templates compiled to the engine's instructions, with checks between them.
//!
//! The engine bounds the number of steps, and one step may double a string, nest a list once more, or put a namespace into
//! itself. So a check follows each instruction that makes a value and goes before each that keeps one (see
//! [`Budget`](super::budget::Budget)); checks are filters, whose names no template can write.

use std::collections::BTreeMap;

use minijinja::machinery::{self, CodeGenerator, Instruction, Instructions, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error};

/// Filters that the instructions below call: of one value that was made, of one that a variable or an attribute is to keep,
/// and of two in place of the operators.
pub const MADE: &str = "<made>";
pub const KEPT: &str = "<kept>";
pub const KEPT_INSIDE: &str = "<kept-inside>";
pub const CONCATENATE: &str = "~";
pub const ADD: &str = "+";
pub const MULTIPLY: &str = "*";
/// Of a value, a start, a stop and a step.
pub const SLICE: &str = "<part>";
/// Of a value that a loop is to walk.
pub const WALKED: &str = "<walked>";
/// Gives its value back. A name that can stand in a source.
pub const VALUE: &str = "value_";

/// No place in the engine's table of filters.
const UNCACHED: u8 = !0;

/// A template that can be run.
pub struct Program<'a> {
    instructions: Instructions<'a>,
    blocks: BTreeMap<&'a str, Instructions<'a>>,
}

impl<'a> Program<'a> {
    /// Compiles `source`, which [`prepare`] gave.
    pub fn compile(name: &'a str, source: &'a str) -> Result<Self, Error> {
        let tree = machinery::parse(source, name, syntax()?)?;
        let mut generator = CodeGenerator::new(name, source);
        generator.compile_stmt(&tree);
        let (instructions, blocks) = generator.finish();
        let blocks = blocks.into_iter().map(|(name, block)| (name, with_checks(&block))).collect();
        Ok(Self { instructions: with_checks(&instructions), blocks })
    }

    pub fn run(&'a self, environment: &'a Environment<'a>, variables: Value) -> Result<String, Error> {
        let mut text = String::new();
        let mut out = machinery::make_string_output(&mut text);
        machinery::eval(environment, &self.instructions, variables, &self.blocks, &mut out, AutoEscape::None)?;
        Ok(text)
    }
}

fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

/// Takes multiplications of constants from the compiler, which would do them without bounds.
pub fn prepare(source: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(source.len());
    let (mut copied, mut after_value) = (0, false);
    for token in machinery::tokenize(source, false, syntax()?) {
        let (token, span) = token?;
        // After anything else it spreads the arguments of a call.
        if matches!(token, Token::Mul) && after_value {
            let at = span.start_offset as usize;
            out.extend([&source[copied..at], "|", VALUE, " "]);
            copied = at;
        }
        after_value = matches!(
            token,
            Token::Ident(_)
                | Token::Str(_)
                | Token::String(_)
                | Token::Int(_)
                | Token::Int128(_)
                | Token::Float(_)
                | Token::ParenClose
                | Token::BracketClose
                | Token::BraceClose
        );
    }
    out.push_str(&source[copied..]);
    Ok(out)
}

fn filter<'a>(name: &'static str, arguments: u16) -> Instruction<'a> {
    Instruction::ApplyFilter(name, Some(arguments), UNCACHED)
}

/// The same program with checks. Jumps lead to what stands for the instruction that they led to, its checks included.
fn with_checks<'a>(plain: &Instructions<'a>) -> Instructions<'a> {
    let old: Vec<&Instruction<'a>> = (0..).map_while(|at| plain.get(at)).collect();
    let mut places = Vec::with_capacity(old.len() + 1);
    let mut new: Vec<(Instruction<'a>, u32)> = Vec::new();
    for (instruction, at) in old.into_iter().zip(0..) {
        places.push(new.len() as u32);
        let steps = match instruction {
            // Through the formatter, which counts.
            Instruction::EmitRaw(text) => vec![Instruction::LoadConst(Value::from(*text)), Instruction::Emit],
            Instruction::StringConcat => vec![filter(CONCATENATE, 2)],
            Instruction::Add => vec![filter(ADD, 2), filter(MADE, 1)],
            Instruction::Mul => vec![filter(MULTIPLY, 2), filter(MADE, 1)],
            Instruction::Slice => vec![filter(SLICE, 4), filter(MADE, 1)],
            Instruction::PushLoop(_) => vec![filter(WALKED, 1), instruction.clone()],
            Instruction::StoreLocal(_) => vec![filter(KEPT, 1), instruction.clone()],
            // The namespace lies over the value.
            Instruction::SetAttr(_) => {
                vec![Instruction::Swap, filter(KEPT_INSIDE, 1), Instruction::Swap, instruction.clone()]
            }
            Instruction::ApplyFilter(..)
            | Instruction::CallFunction(..)
            | Instruction::CallMethod(..)
            | Instruction::CallObject(_)
            | Instruction::EndCapture => vec![instruction.clone(), filter(MADE, 1)],
            _ => vec![instruction.clone()],
        };
        new.extend(steps.into_iter().map(|step| (step, at)));
    }
    places.push(new.len() as u32);

    let place = |target: &mut u32| *target = places.get(*target as usize).copied().unwrap_or(u32::MAX);
    let mut checked = Instructions::new(plain.name(), plain.source());
    for (mut instruction, at) in new {
        match &mut instruction {
            Instruction::Jump(target)
            | Instruction::JumpIfFalse(target)
            | Instruction::JumpIfFalseOrPop(target)
            | Instruction::JumpIfTrueOrPop(target)
            | Instruction::Iterate(target)
            | Instruction::BuildMacro(_, target, _) => place(target),
            _ => {}
        }
        match (plain.get_span(at), plain.get_line(at)) {
            (Some(span), _) => checked.add_with_span(instruction, span),
            (None, Some(line)) => checked.add_with_line(instruction, line as u16),
            (None, None) => checked.add(instruction),
        };
    }
    checked
}
