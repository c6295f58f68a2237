//! A stack machine for the pickles that `torch.save` writes of state dictionaries. It knows a list of operations and a list
//! of names, and nothing outside them; no operation calls anything.
//!
//! Values live in one list and refer to one another by index, so that a hostile nesting costs no recursion, and sharing
//! no copies. Their number is bounded.

use std::collections::HashMap;

use crate::zip::Wrong;

/// Values, entries of the stack and remembered values that a pickle may have: twelve of each tensor are usual. Bounds the
/// memory, as a tensor may take 200 bytes.
const MOST: usize = 1 << 18;
/// Bytes of a tensor's name; a pickle may give many tensors one long name.
const MAX_NAME: usize = 1_024;
/// Operations that a pickle may have; some make no value.
const MOST_OPERATIONS: usize = 1 << 23;

pub type Id = u32;

/// What a name of a module may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// A storage class, by safetensors' name of its type.
    Storage(&'static str),
}

/// Every name that is known.
const GLOBALS: [(&str, &str, Global); 6] = [
    ("collections", "OrderedDict", Global::OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
    ("torch._utils", "_rebuild_parameter", Global::RebuildParameter),
    ("torch", "FloatStorage", Global::Storage("F32")),
    ("torch", "HalfStorage", Global::Storage("F16")),
    ("torch", "BFloat16Storage", Global::Storage("BF16")),
];

#[derive(Clone, Debug)]
pub enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Text(&'a str),
    Global(Global),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Storage(Storage<'a>),
    Tensor(Box<Tensor<'a>>),
}

#[derive(Clone, Copy, Debug)]
pub struct Storage<'a> {
    /// Safetensors' name of the type.
    pub dtype: &'static str,
    /// The name of the member in `data/`.
    pub key: &'a str,
}

#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    pub storage: Storage<'a>,
    /// The first value's place in the storage, counted in values.
    pub offset: i64,
    pub shape: Vec<i64>,
    /// In values, for each dimension.
    pub stride: Vec<i64>,
}

/// Follows the pickle and gives the tensors of the dictionary that it describes.
pub fn tensors(pickle: &[u8]) -> Result<Vec<(&str, Tensor<'_>)>, Wrong> {
    let mut machine =
        Machine { pickle, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    let top = machine.run()?;
    let Value::Dict(entries) = machine.value(top) else {
        return Err(machine.wrong("a dictionary of tensors", machine.describe(top)));
    };
    if entries.len() > MOST {
        return Err(machine.wrong("a dictionary of tensors", format!("{} entries", entries.len())));
    }
    let named = entries.iter().map(|&(key, value)| match (machine.value(key), machine.value(value)) {
        (Value::Text(name), Value::Tensor(tensor)) if name.len() <= MAX_NAME => Ok((*name, tensor.as_ref().clone())),
        (Value::Text(name), _) => {
            let name: String = name.chars().take(80).collect();
            Err(machine.wrong("tensors alone in the dictionary", format!("{name:?}: {}", machine.describe(value))))
        }
        _ => Err(machine.wrong("names of tensors", machine.describe(key))),
    });
    named.collect()
}

struct Machine<'a> {
    pickle: &'a [u8],
    /// The next byte.
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Runs to the end and gives what then lies on the stack.
    fn run(&mut self) -> Result<Id, Wrong> {
        for _ in 0..MOST_OPERATIONS {
            let operation = self.take(1)?[0];
            match operation {
                b'.' => return self.pop(),
                0x80 => self.protocol()?,
                0x95 => _ = self.take(8)?, // FRAME: how much a reader may buffer.
                b'(' => self.mark()?,
                b'N' => self.push(Value::None)?,
                0x88 | 0x89 => self.push(Value::Bool)?,
                b'K' => self.integer(1)?,
                b'M' => self.integer(2)?,
                b'J' => self.integer(4)?,
                0x8A => {
                    let len = self.take(1)?[0];
                    self.integer(len.into())?;
                }
                0x8C => {
                    let len = self.take(1)?[0];
                    self.text(len.into())?;
                }
                b'X' => {
                    let len = self.number(4)?;
                    self.text(len)?;
                }
                b'c' => self.global()?,
                0x93 => self.stack_global()?,
                b'q' => {
                    let key = self.number(1)?;
                    self.remember(key)?;
                }
                b'r' => {
                    let key = self.number(4)?;
                    self.remember(key)?;
                }
                0x94 => self.remember(self.memo.len())?,
                b'h' => {
                    let key = self.number(1)?;
                    self.recall(key)?;
                }
                b'j' => {
                    let key = self.number(4)?;
                    self.recall(key)?;
                }
                b')' => self.push(Value::Tuple(Vec::new()))?,
                b't' => {
                    let items = self.since_mark()?;
                    self.push(Value::Tuple(items))?;
                }
                0x85..=0x87 => self.tuple(usize::from(operation - 0x84))?,
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(&[key, value])?;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.set_items(&items)?;
                }
                b'Q' => self.persistent()?,
                b'R' => self.reduce()?,
                b'b' => self.build()?,
                other => {
                    return Err(self.wrong("an operation of a state dictionary", format!("operation {other:#04x}")));
                }
            }
        }
        Err(self.wrong("a pickle of a state dictionary", format!("over {MOST_OPERATIONS} operations")))
    }

    fn wrong(&self, expected: &'static str, found: impl Into<String>) -> Wrong {
        Wrong::new(self.at, expected, found)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Wrong> {
        let taken = self.at.checked_add(count).and_then(|end| self.pickle.get(self.at..end));
        let taken = taken.ok_or_else(|| self.wrong("more of the pickle", "its end"))?;
        self.at += count;
        Ok(taken)
    }

    /// An unsigned number of up to four bytes.
    fn number(&mut self, bytes: usize) -> Result<usize, Wrong> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)))
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), Wrong> {
        if self.values.len() >= MOST {
            return Err(self.wrong("a pickle of a state dictionary", format!("over {MOST} values")));
        }
        self.values.push(value);
        self.push_id((self.values.len() - 1) as Id)
    }

    fn push_id(&mut self, id: Id) -> Result<(), Wrong> {
        if self.stack.len() >= MOST {
            return Err(self.wrong("a pickle of a state dictionary", format!("over {MOST} values on the stack")));
        }
        self.stack.push(id);
        Ok(())
    }

    /// Never below a mark.
    fn pop(&mut self) -> Result<Id, Wrong> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let popped = if self.stack.len() > floor { self.stack.pop() } else { None };
        popped.ok_or_else(|| self.wrong("a value on the stack", "none"))
    }

    fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    fn describe(&self, id: Id) -> String {
        let kind = match self.value(id) {
            Value::None => "None",
            Value::Bool => "a bool",
            Value::Int(value) => return format!("the number {value}"),
            Value::Text(_) => "a string",
            Value::Global(global) => return format!("{global:?}"),
            Value::Tuple(_) => "a tuple",
            Value::Dict(_) => "a dictionary",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
        };
        kind.to_owned()
    }

    fn protocol(&mut self) -> Result<(), Wrong> {
        match self.take(1)?[0] {
            2..=5 => Ok(()),
            other => Err(self.wrong("a pickle of protocol 2 to 5", other.to_string())),
        }
    }

    fn mark(&mut self) -> Result<(), Wrong> {
        if self.marks.len() >= MOST {
            return Err(self.wrong("a pickle of a state dictionary", format!("over {MOST} marks")));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, Wrong> {
        let mark = self.marks.pop().ok_or_else(|| self.wrong("a mark on the stack", "none"))?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, count: usize) -> Result<(), Wrong> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items))
    }

    /// One byte and two bytes are unsigned; four are signed, as is any other number of them.
    fn integer(&mut self, bytes: usize) -> Result<(), Wrong> {
        let taken = self.take(bytes)?;
        if bytes > 8 {
            return Err(self.wrong("integers of up to 8 bytes", bytes.to_string()));
        }
        let signed = bytes > 2 && taken.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut full = [if signed { 0xFF } else { 0 }; 8];
        full[..bytes].copy_from_slice(taken);
        self.push(Value::Int(i64::from_le_bytes(full)))
    }

    fn text(&mut self, len: usize) -> Result<(), Wrong> {
        let text = std::str::from_utf8(self.take(len)?).map_err(|e| self.wrong("text in UTF-8", e.to_string()))?;
        self.push(Value::Text(text))
    }

    /// Two lines: the module and the name.
    fn global(&mut self) -> Result<(), Wrong> {
        let module = self.line()?;
        let name = self.line()?;
        self.push_global(module, name)
    }

    fn line(&mut self) -> Result<&'a str, Wrong> {
        let rest = &self.pickle[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| self.wrong("the end of a line", "none"))?;
        let line = std::str::from_utf8(&rest[..end]).map_err(|e| self.wrong("a name in UTF-8", e.to_string()))?;
        self.at += end + 1;
        Ok(line)
    }

    fn stack_global(&mut self) -> Result<(), Wrong> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (self.value(module), self.value(name)) {
            (&Value::Text(module), &Value::Text(name)) => self.push_global(module, name),
            _ => Err(self.wrong("the names of a module and a global", self.describe(name))),
        }
    }

    fn push_global(&mut self, module: &str, name: &str) -> Result<(), Wrong> {
        match GLOBALS.iter().find(|(m, n, _)| *m == module && *n == name) {
            Some((_, _, global)) => self.push(Value::Global(*global)),
            None => {
                let short = |text: &str| text.chars().take(80).collect::<String>();
                let found = format!("the global {}.{}", short(module), short(name));
                Err(self.wrong("tensors of float32, float16 or bfloat16 in a state dictionary", found))
            }
        }
    }

    fn remember(&mut self, key: usize) -> Result<(), Wrong> {
        let &top = self.stack.last().ok_or_else(|| self.wrong("a value on the stack", "none"))?;
        if self.memo.len() >= MOST {
            return Err(self.wrong("a pickle of a state dictionary", format!("over {MOST} remembered values")));
        }
        self.memo.insert(key as u32, top);
        Ok(())
    }

    fn recall(&mut self, key: usize) -> Result<(), Wrong> {
        let id = self.memo.get(&(key as u32)).copied();
        let id = id.ok_or_else(|| self.wrong("a value that was remembered", format!("number {key}")))?;
        self.push_id(id)
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), Wrong> {
        let dict = self.stack.last().copied().ok_or_else(|| self.wrong("a dictionary", "nothing"))?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.values[dict as usize] {
            Value::Dict(entries) if rest.is_empty() => {
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            _ => Err(self.wrong("a dictionary, and a value for each key", self.describe(dict))),
        }
    }

    /// `("storage", class, key, location, count)` names a member of the archive.
    fn persistent(&mut self) -> Result<(), Wrong> {
        let id = self.pop()?;
        if let Value::Tuple(parts) = self.value(id)
            && let [kind, class, key, _, _] = parts[..]
            && let (Value::Text("storage"), &Value::Global(Global::Storage(dtype)), &Value::Text(key)) =
                (self.value(kind), self.value(class), self.value(key))
        {
            return self.push(Value::Storage(Storage { dtype, key }));
        }
        Err(self.wrong("the name of a storage", self.describe(id)))
    }

    /// What would be a call in Python.
    fn reduce(&mut self) -> Result<(), Wrong> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let (&Value::Global(global), Value::Tuple(parts)) = (self.value(callee), self.value(arguments)) else {
            return Err(self.wrong("a known name and its arguments", self.describe(callee)));
        };
        let value = match (global, &parts[..]) {
            (Global::OrderedDict, []) => Some(Value::Dict(Vec::new())),
            (Global::RebuildParameter, [tensor, ..]) => match self.value(*tensor) {
                Value::Tensor(tensor) => Some(Value::Tensor(tensor.clone())),
                _ => None,
            },
            (Global::RebuildTensor, &[storage, offset, shape, stride, ..]) => {
                self.tensor(storage, offset, shape, stride).map(|tensor| Value::Tensor(Box::new(tensor)))
            }
            _ => None,
        };
        let value = value.ok_or_else(|| self.wrong("the arguments of a tensor", format!("others of {global:?}")))?;
        self.push(value)
    }

    fn tensor(&self, storage: Id, offset: Id, shape: Id, stride: Id) -> Option<Tensor<'a>> {
        let (&Value::Storage(storage), &Value::Int(offset)) = (self.value(storage), self.value(offset)) else {
            return None;
        };
        Some(Tensor { storage, offset, shape: self.sizes(shape)?, stride: self.sizes(stride)? })
    }

    /// A tuple of at most eight integers.
    fn sizes(&self, id: Id) -> Option<Vec<i64>> {
        let Value::Tuple(items) = self.value(id) else { return None };
        let size = |id: &Id| if let Value::Int(size) = self.value(*id) { Some(*size) } else { None };
        items.iter().map(size).collect::<Option<Vec<_>>>().filter(|sizes| sizes.len() <= 8)
    }

    /// Attributes of a dictionary, such as the versions of modules, change no tensor.
    fn build(&mut self) -> Result<(), Wrong> {
        self.pop()?;
        match self.stack.last().map(|id| self.value(*id)) {
            Some(Value::Dict(_)) => Ok(()),
            _ => Err(self.wrong("attributes of a dictionary", "of another value")),
        }
    }
}
