"""Single deliberate breakages of a source file: what they are called, and the file's text with each of them.

A mutant is known by its file, its function, what is changed there into what, and an ordinal where that occurs more than
once. Its name holds no line, so unchanged code keeps its mutants. Left alone are texts (strings, messages of errors,
notes), annotations, imports, assertions and how classes are declared.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_TEXTS = (ast.JoinedStr, ast.List, ast.Tuple)  # what `+` joins: no other operator goes there
_DECLARES = {"dataclass", "Struct", "field", "TypeVar", "overload", "hookimpl"}
_MESSAGES = {"Note", "warn"}


@dataclass(frozen=True)
class Mutant:
    """`new` stands in the place of the bytes from `start` to `end` of a file, in `line`."""

    file: str
    function: str  # its qualified name; "" outside of functions
    change: str  # source => what it becomes
    ordinal: int
    line: int
    start: int
    end: int
    new: str
    cached: bool = False  # the function runs once for many callers

    @property
    def name(self) -> str:
        """What the mutant is known by."""
        return " | ".join([self.file, self.function, self.change, *([str(self.ordinal)] if self.ordinal else [])])

    @property
    def rank(self) -> float:
        """Its place in [0, 1) in the order in which samples are drawn."""
        return int(hashlib.sha256(self.name.encode()).hexdigest()[:12], 16) / 16**12

    def apply(self, source: bytes) -> bytes:
        """The broken file. Raises SyntaxError if it is none."""
        broken = source[: self.start] + self.new.encode() + source[self.end :]
        compile(broken, self.file, "exec", dont_inherit=True)
        return broken


def mutants(file: str, source: bytes) -> list[Mutant]:
    """All mutants of a file."""
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for function, cached, node, change, new in _Finder().run(ast.parse(source)):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start, end = lines[node.lineno - 1] + node.col_offset, lines[node.end_lineno - 1] + node.end_col_offset
        ordinal = seen[function, change]
        seen[function, change] += 1
        found.append(Mutant(file, function, change, ordinal, node.lineno, start, end, new, cached))
    return found


class _Finder(ast.NodeVisitor):
    def __init__(self) -> None:
        self._function, self._cached, self._gives = "", False, True
        self._found: list[tuple[str, bool, ast.expr | ast.stmt, str, str]] = []

    def run(self, tree: ast.AST) -> Iterator[tuple[str, bool, ast.expr | ast.stmt, str, str]]:
        self.visit(tree)
        yield from self._found

    def _add(self, node: ast.expr | ast.stmt, new: str, change: str = "") -> None:
        change = change or f"{ast.unparse(node)} => {new}"
        new = f"({new})" if isinstance(node, ast.expr) else new
        self._found.append((self._function, self._cached, node, change, new))

    def _all(self, nodes: list[ast.expr | None] | list[ast.expr] | list[ast.stmt]) -> None:
        for node in filter(None, nodes):
            self.visit(node)

    # --- where to look

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name == "__repr__":
            return
        outer = self._function, self._cached, self._gives
        self._function = ".".join(filter(None, (self._function, node.name)))
        self._cached |= any("cache" in ast.unparse(d) for d in node.decorator_list)
        self._gives = not (isinstance(node.returns, ast.Constant) and node.returns.value is None)
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and _called(decorator) not in _DECLARES:
                self._add(decorator, "lambda same: same", f"@{ast.unparse(decorator)} => none")
                self.visit(decorator)
        self._all(node.args.defaults)
        self._all(node.args.kw_defaults)
        self._all(node.body)
        self._function, self._cached, self._gives = outer

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer = self._function
        self._function = ".".join(filter(None, (self._function, node.name)))
        self._all(node.body)
        self._function = outer

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._all([node.value])

    def visit_Assign(self, node: ast.Assign) -> None:
        if ast.unparse(node.targets[0]) != "__all__":
            self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None: ...

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None: ...

    # --- what to change

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._add(node, "pass")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._add(node, "pass")

    def visit_Return(self, node: ast.Return) -> None:
        if self._gives and node.value is not None and ast.unparse(node.value) not in ("None", "False"):
            self._add(node, "return None")
        self.generic_visit(node)

    def visit_Break(self, node: ast.Break) -> None:
        self._add(node, "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add(node, "break")

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) not in ("TYPE_CHECKING", "__name__ == '__main__'"):
            self._force(node.test, "True", "False")
            self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._force(node.test, "True", "False")
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._force(node.test, "False")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._force(test, "True", "False")
        self.generic_visit(node)

    def _force(self, test: ast.expr, *values: str) -> None:
        for value in values:
            if not isinstance(test, ast.Constant):
                self._add(test, value, f"if {ast.unparse(test)} => {value}")

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            if isinstance(item.context_expr, ast.Call) and item.optional_vars is None:
                change = f"with {ast.unparse(item.context_expr)} => none"
                self._add(item.context_expr, "__import__('contextlib').nullcontext()", change)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for number, operator in enumerate(node.ops):
            ops: list[ast.AST] = [*node.ops[:number], _SWAPS[type(operator)](), *node.ops[number + 1 :]]
            self._add(node, _unparse(node, ops=ops))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._add(node, _unparse(node, op=_SWAPS[type(node.op)]()))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._add(node, ast.unparse(node.operand))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.BitOr | ast.BitAnd):
            if self._function and ast.unparse(node.right) != "None":
                self._add(node, ast.unparse(node.left))
        elif type(node.op) in _SWAPS and not any(isinstance(n, _TEXTS) or _is_text(n) for n in (node.left, node.right)):
            self._add(node, _unparse(node, op=_SWAPS[type(node.op)]()))
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.op, ast.BitOr | ast.BitAnd):
            self._add(node, "pass")
        elif type(node.op) in _SWAPS:
            self._add(node, _unparse(node, op=_SWAPS[type(node.op)]()))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._add(node, str(not node.value))
        elif isinstance(node.value, int | float):
            self._add(node, {0: "1", 1: "0"}.get(node.value, f"{node.value} + 1"))

    def visit_Call(self, node: ast.Call) -> None:
        called = _called(node)
        if called in _DECLARES | _MESSAGES or called.endswith(("Error", "Exception")):
            return
        if called == "zip":  # `strict` says what holds anyway
            self._all(node.args)
            return
        for keyword in node.keywords:
            if keyword.arg is not None:
                rest = [other for other in node.keywords if other is not keyword]
                change = f"{ast.unparse(node.func)}({ast.unparse(keyword)}) => none"
                self._add(node, _unparse(node, keywords=rest), change)
        self.generic_visit(node)


def _called(call: ast.Call) -> str:
    """The last part of the name of what is called."""
    return ast.unparse(call.func).split(".")[-1]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _unparse(node: ast.AST, **changes: object) -> str:
    """The source of a node with other fields."""
    return ast.unparse(type(node)(**(dict(ast.iter_fields(node)) | changes)))
