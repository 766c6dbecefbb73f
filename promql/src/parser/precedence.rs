//! Operator precedence over a flat list, without recursion.

/// How tightly an operator binds; higher is tighter. All associate to the left except [`POWER`].
pub const OR: u8 = 1;
pub const AND: u8 = 2;
pub const COMPARISON: u8 = 3;
pub const SUM: u8 = 4;
/// Also unary `+` and `-`: `-a ^ b` is `-(a ^ b)`, `-a * b` is `(-a) * b`.
pub const PRODUCT: u8 = 5;
pub const POWER: u8 = 6;

enum Pending<U, B> {
    Unary(U),
    Binary(B, u8),
}

impl<U, B> Pending<U, B> {
    fn precedence(&self) -> u8 {
        match self {
            Pending::Unary(_) => PRODUCT,
            Pending::Binary(_, precedence) => *precedence,
        }
    }
}

/// What operators make of operands.
pub trait Fold<T, U, B> {
    fn unary(&mut self, op: U, operand: T) -> T;
    fn binary(&mut self, left: T, op: B, right: T) -> T;
}

/// Applies operators to operands as these arrive from left to right: the classic two stacks.
///
/// Operators are applied in the order in which an LR parser reduces them, so errors come in Prometheus' order.
pub struct Climber<T, U, B> {
    operands: Vec<T>,
    pending: Vec<Pending<U, B>>,
}

impl<T, U, B> Climber<T, U, B> {
    pub fn new() -> Climber<T, U, B> {
        Climber { operands: Vec::new(), pending: Vec::new() }
    }

    pub fn unary(&mut self, op: U) {
        self.pending.push(Pending::Unary(op));
    }

    pub fn operand(&mut self, operand: T) {
        self.operands.push(operand);
    }

    /// Applies what stands to the left of a binary operator and binds tighter; then comes [`Climber::push`].
    pub fn apply_left(&mut self, precedence: u8, fold: &mut impl Fold<T, U, B>) {
        let least = if precedence == POWER { POWER + 1 } else { precedence };
        self.apply(least, fold);
    }

    /// Takes the binary operator itself.
    pub fn push(&mut self, op: B, precedence: u8) {
        self.pending.push(Pending::Binary(op, precedence));
    }

    /// The whole expression; `None` where there was no operand.
    pub fn finish(mut self, fold: &mut impl Fold<T, U, B>) -> Option<T> {
        self.apply(0, fold);
        self.operands.pop()
    }

    fn apply(&mut self, least: u8, fold: &mut impl Fold<T, U, B>) {
        while let Some(top) = self.pending.pop_if(|top| top.precedence() >= least) {
            let Some(right) = self.operands.pop() else { return };
            let applied = match top {
                Pending::Unary(op) => fold.unary(op, right),
                Pending::Binary(op, _) => match self.operands.pop() {
                    Some(left) => fold.binary(left, op, right),
                    None => right,
                },
            };
            self.operands.push(applied);
        }
    }
}
