use super::malformed;
use crate::Error;

/// A value of an unpickled file, as a place in [`Pickle`]'s table. No code is ever run: calls and classes stay records.
pub(super) type Id = usize;

/// What the unpickler keeps of a value.
#[derive(Debug)]
pub(super) enum Node {
    Int(i64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// Module and name.
    Global(String, String),
    /// A call that was not made: callable and arguments.
    Call(Id, Id),
    /// A reference to data outside the pickle.
    Persistent(Id),
    /// Nothing that a tensor's description needs.
    Other,
}

/// Values in one table, so that neither copying nor dropping them follows their nesting, which an attacker chooses.
#[derive(Debug)]
pub(super) struct Pickle {
    nodes: Vec<Node>,
    /// The value that the pickle stands for.
    pub(super) root: Id,
}

impl Pickle {
    pub(super) fn node(&self, id: Id) -> &Node {
        self.nodes.get(id).unwrap_or(&Node::Other)
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        if let Node::Text(s) = self.node(id) { Some(s) } else { None }
    }

    pub(super) fn int(&self, id: Id) -> Option<i64> {
        if let Node::Int(n) = self.node(id) { Some(*n) } else { None }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        if let Node::Tuple(v) = self.node(id) { Some(v) } else { None }
    }

    pub(super) fn global(&self, id: Id) -> Option<(&str, &str)> {
        if let Node::Global(m, n) = self.node(id) { Some((m, n)) } else { None }
    }

    /// Reads a pickle of protocol 2 to 5.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        let mut machine =
            Machine { input: bytes, nodes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: Vec::new() };
        while !machine.step()? {}
        let root = machine.pop()?;
        Ok(Self { nodes: machine.nodes, root })
    }
}

struct Machine<'a> {
    input: &'a [u8],
    nodes: Vec<Node>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: Vec<Id>,
}

impl<'a> Machine<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let Some((head, rest)) = self.input.split_at_checked(n) else { return malformed("its pickle ends too early") };
        self.input = rest;
        Ok(head)
    }

    /// A little-endian number of up to eight bytes.
    fn number(&mut self, bytes: usize) -> Result<u64, Error> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, Error> {
        Ok(usize::try_from(self.number(bytes)?).unwrap_or(usize::MAX))
    }

    fn text(&mut self, length: usize) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn line(&mut self) -> Result<String, Error> {
        let Some(n) = self.input.iter().position(|&b| b == b'\n') else {
            return malformed("its pickle ends too early");
        };
        let line = self.text(n)?;
        self.take(1)?;
        Ok(line)
    }

    fn push(&mut self, node: Node) {
        self.nodes.push(node);
        self.stack.push(self.nodes.len() - 1);
    }

    fn pop(&mut self) -> Result<Id, Error> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(id) if self.stack.len() >= floor => Ok(id),
            _ => malformed("its pickle takes a value that is not there"),
        }
    }

    fn top(&self) -> Result<Id, Error> {
        self.stack.last().copied().map_or_else(|| malformed("its pickle takes a value that is not there"), Ok)
    }

    fn until_mark(&mut self) -> Result<Vec<Id>, Error> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => malformed("its pickle has no mark where it needs one"),
        }
    }

    fn last(&mut self, n: usize) -> Result<Vec<Id>, Error> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        Ok(items)
    }

    fn extend(&mut self, items: Vec<Id>) -> Result<(), Error> {
        let target = self.top()?;
        if let Some(Node::List(list)) = self.nodes.get_mut(target) {
            list.extend(items);
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), Error> {
        let target = self.top()?;
        if let Some(Node::Dict(dict)) = self.nodes.get_mut(target) {
            dict.extend(items.chunks_exact(2).filter_map(|p| Some((*p.first()?, *p.get(1)?))));
        }
        Ok(())
    }

    fn remember(&mut self, at: usize) -> Result<(), Error> {
        // Python numbers its memo without gaps, so a larger number is no honest one.
        let id = self.top()?;
        if at < self.memo.len() {
            self.memo[at] = id;
        } else if at <= self.memo.len() + 256 {
            self.memo.resize(at, id);
            self.memo.push(id);
        } else {
            return malformed(format!("its pickle skips to memo {at}"));
        }
        Ok(())
    }

    fn recall(&mut self, at: usize) -> Result<(), Error> {
        let Some(&id) = self.memo.get(at) else { return malformed(format!("its pickle recalls unknown memo {at}")) };
        self.stack.push(id);
        Ok(())
    }

    fn call(&mut self) -> Result<(), Error> {
        let (callable, args) = match *self.last(2)? {
            [callable, args] => (callable, args),
            _ => return malformed("its pickle takes a value that is not there"),
        };
        let dict = matches!(self.nodes.get(callable), Some(Node::Global(m, n)) if m == "collections" && (n == "OrderedDict" || n == "defaultdict"));
        self.push(if dict { Node::Dict(Vec::new()) } else { Node::Call(callable, args) });
        Ok(())
    }

    /// Carries out one instruction; true at the end.
    fn step(&mut self) -> Result<bool, Error> {
        match self.number(1)? as u8 {
            b'.' => return Ok(true),
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Node::Tuple(Vec::new())),
            b't' => {
                let items = self.until_mark()?;
                self.push(Node::Tuple(items));
            }
            op @ 0x85..=0x87 => {
                let items = self.last(usize::from(op - 0x84))?;
                self.push(Node::Tuple(items));
            }
            b']' | 0x8f => self.push(Node::List(Vec::new())),
            b'l' | 0x91 => {
                let items = self.until_mark()?;
                self.push(Node::List(items));
            }
            b'a' => {
                let item = self.last(1)?;
                self.extend(item)?;
            }
            b'e' | 0x90 => {
                let items = self.until_mark()?;
                self.extend(items)?;
            }
            b'}' => self.push(Node::Dict(Vec::new())),
            b'd' => {
                let items = self.until_mark()?;
                self.push(Node::Dict(Vec::new()));
                self.set(&items)?;
            }
            b's' => {
                let items = self.last(2)?;
                self.set(&items)?;
            }
            b'u' => {
                let items = self.until_mark()?;
                self.set(&items)?;
            }
            b'N' | 0x88 | 0x89 => self.push(Node::Other),
            b'K' => self.integer(1)?,
            b'M' => self.integer(2)?,
            b'J' => {
                let n = self.number(4)? as u32 as i32;
                self.push(Node::Int(i64::from(n)));
            }
            0x8a => {
                let n = self.length(1)?;
                let bytes = self.take(n)?;
                let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
                let start = if negative { -1i64 } else { 0 };
                let value = bytes.iter().rev().fold(start, |v, &b| v.wrapping_shl(8) | i64::from(b));
                self.push(if n <= 8 { Node::Int(value) } else { Node::Other });
            }
            b'G' => {
                self.take(8)?;
                self.push(Node::Other);
            }
            b'X' => self.string(4)?,
            0x8c => self.string(1)?,
            0x8d => self.string(8)?,
            b'B' | b'T' => self.skip(4)?,
            b'C' | b'U' => self.skip(1)?,
            0x8e | 0x96 => self.skip(8)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Global(module, name));
            }
            0x93 => {
                let parts = self.last(2)?;
                let part = |n: usize| match parts.get(n).and_then(|&id| self.nodes.get(id)) {
                    Some(Node::Text(s)) => s.clone(),
                    _ => String::new(),
                };
                let global = Node::Global(part(0), part(1));
                self.push(global);
            }
            b'R' | 0x81 => self.call()?,
            0x92 => {
                self.pop()?;
                self.call()?;
            }
            // State of an object: only tensors and dictionaries matter, and these have none that does.
            b'b' | b'0' => drop(self.pop()?),
            b'1' => drop(self.until_mark()?),
            b'2' => {
                let id = self.top()?;
                self.stack.push(id);
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id));
            }
            b'q' => {
                let at = self.length(1)?;
                self.remember(at)?;
            }
            b'r' => {
                let at = self.length(4)?;
                self.remember(at)?;
            }
            0x94 => self.remember(self.memo.len())?,
            b'h' => {
                let at = self.length(1)?;
                self.recall(at)?;
            }
            b'j' => {
                let at = self.length(4)?;
                self.recall(at)?;
            }
            other => return malformed(format!("its pickle has the unknown instruction {other:#04x}")),
        }
        Ok(false)
    }

    fn integer(&mut self, bytes: usize) -> Result<(), Error> {
        let n = self.number(bytes)?;
        self.push(Node::Int(n as i64));
        Ok(())
    }

    fn string(&mut self, bytes: usize) -> Result<(), Error> {
        let n = self.length(bytes)?;
        let text = self.text(n)?;
        self.push(Node::Text(text));
        Ok(())
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Error> {
        let n = self.length(bytes)?;
        self.take(n)?;
        self.push(Node::Other);
        Ok(())
    }
}
