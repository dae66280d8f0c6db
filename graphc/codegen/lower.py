"""Functions in the machine's vocabulary (see ``machine.py``) as LLVM instructions.

The vocabulary is small and every word says its own types, so types are known line by line: a line
costs some tens of microseconds, where a general front end such as Numba's takes a millisecond.
A name that has one value wherever it is read is that value; any other is memory of the function,
which LLVM turns into registers.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llvmlite import ir

from graphc import syntax
from graphc.codegen.kinds import (
    BOOL,
    BYTES,
    FLOAT64,
    INT64,
    NONE,
    SCALARS,
    WORDS,
    Buffer,
    Kind,
    convert,
    copy_bytes,
    declared,
    load,
    local,
    store,
)
from graphc.codegen.loop_wishes import UNASKED_WIDTH, ask_of_loop, is_straight
from graphc.codegen.machine import MATH
from graphc.codegen.native_words import Word
from graphc.errors import VerifyError

_FLOAT = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}
_INTEGER = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and_", ast.BitOr: "or_",
    ast.BitXor: "xor", ast.LShift: "shl", ast.RShift: "ashr",
}  # fmt: skip
_PLAIN = (ast.Name, ast.Constant, ast.BinOp, ast.Mult, ast.Sub, ast.UnaryOp, ast.USub, ast.Load)
_LOGICAL = {ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor"}
_WORDS = {ast.FloorDiv: "floor_div", ast.Mod: "floor_mod"}
_ORDER = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}

_WIDEST = 8  # elements of a vector for which vector math of any dtype has a variant
#: How loops are written: the steps of a ``range``; ``abreast``, as the lanes of one vector; or
#: ``unrolled``, one after the other.
_LOOPS = frozenset({"range", "abreast", "unrolled"})

_MAIN_KINDS = {"args": BYTES, "arena": BYTES, "ints": WORDS}
_MANY_PARAMETERS = 32  # from which a kernel stays a function
_LONG = 300  # lines of a kernel without loops from which vector math is called
_OUT_OF_LINE = frozenset({*MATH, "power"}) - {"sqrt", "rsqrt"}


def lower_kernel(
    module: ir.Module, name: str, text: str, kinds: Sequence, words: dict, in_place: bool = False
) -> Word:
    """The function in ``text``, of parameters of ``kinds`` and without a result, becomes the
    function ``name`` of ``module``, always inlined if ``in_place``; the word that calls it."""
    tree = _parsed(text)
    function = _function(module, name, kinds, NONE)
    for argument, kind in zip(function.args, kinds, strict=True):
        if isinstance(kind, Buffer):
            argument.add_attribute("noalias")
    if in_place:
        function.attributes.add("alwaysinline")
    elif len(kinds) > _MANY_PARAMETERS:  # inlined, pairs that may alias cost LLVM time
        function.attributes.add("noinline")
    lowering = _Lowering(tree, words, ir.IRBuilder(function.append_basic_block("entry")))
    names = [a.arg for a in tree.args.args]
    lowering.buffers = {
        name for name, kind in zip(names, kinds, strict=True)
        if isinstance(kind, Buffer) and name in lowering.single
    }  # fmt: skip
    lowering.builder.straight = _is_straight(tree)  # vector math then has nothing to vectorise
    lowering.out_of_line = text.count("\n") >= _LONG and lowering.builder.straight
    lowering.run(kinds, function.args)
    lowering.builder.ret_void()
    if len(kinds) > _MANY_PARAMETERS and lowering.only_moves and not in_place:
        function.attributes.add("optnone")  # nothing to gain from passes that compare all pairs
    return calling(name, function.ftype, kinds, NONE)


def lower_words(module: ir.Module, name: str, tree: ast.FunctionDef, words: dict) -> Word:
    """A function of int64 words that returns one."""
    kinds = [INT64] * len(tree.args.args)
    function = _function(module, name, kinds, INT64)
    lowering = _Lowering(tree, words, ir.IRBuilder(function.append_basic_block("entry")))
    lowering.result = local(lowering.builder, INT64.value)
    lowering.run(kinds, function.args)
    lowering.builder.ret(lowering.builder.load(lowering.result))
    return calling(name, function.ftype, kinds, INT64)


def lower_main(text: str, words: dict, builder, arguments) -> None:
    """Append the body of the ``main`` in ``text`` for the LLVM values of its arguments. The builder
    is left where it returns."""
    tree = _parsed(text)
    lowering = _Lowering(tree, words, builder)
    lowering.fixed = set(_MAIN_KINDS)
    lowering.run([_MAIN_KINDS[a.arg] for a in tree.args.args], arguments)


def calling(name: str, signature: ir.FunctionType, kinds: Sequence, result: Kind) -> Word:
    """The word that calls the function ``name``, of this module or of another."""
    sig = result(*kinds)

    def emit(builder, sig, args):
        value = builder.call(declared(builder.module, name, signature), args)
        return None if result == NONE else value

    return Word(name, len(kinds), lambda *_: sig, emit)


def _function(module: ir.Module, name: str, kinds: Sequence, result: Kind) -> ir.Function:
    function = ir.Function(
        module, ir.FunctionType(result.value, [kind.value for kind in kinds]), name
    )
    function.linkage = "internal"
    return function


def _parsed(text: str) -> ast.FunctionDef:
    (tree,) = syntax.parse(text).body
    assert isinstance(tree, ast.FunctionDef)
    return tree


def _is_straight(tree: ast.FunctionDef) -> bool:
    """Whether no loop does more than fill: nothing there is worth vectorising."""
    return not any(
        isinstance(node, ast.While) or (isinstance(node, ast.For) and not _only_fills(node))
        for node in ast.walk(tree)
    )


def _only_fills(loop: ast.For) -> bool:
    """``for j in range(n): o[j] = c``"""
    (statement, *more) = loop.body
    return (
        not more
        and isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Subscript)
        and isinstance(statement.value, ast.Name)
    )


def _move(module: ir.Module) -> ir.Function:
    """``move(target, source, nbytes)``. Hundreds of moves in place make a block of thousands of
    instructions, to which LLVM takes time with its square."""
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, pointer, INT64.value])
    function = declared(module, "move", kind)
    if function.is_declaration:
        function.linkage = "internal"
        function.attributes.add("noinline")
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        copy_bytes(builder, *function.args)
        builder.ret_void()
    return function


@dataclass(frozen=True)
class _Copy:
    """``target[j + target_from] = source[j + source_from]`` for each step j of a loop."""

    target: str
    target_from: ast.expr
    source: str
    source_from: ast.expr


def _copies(loop: ast.For) -> list[_Copy]:
    """What a loop copies from buffers to others, if it does no more than that."""
    assert isinstance(loop.target, ast.Name)
    found: list[_Copy] = []
    known: dict[str, ast.Subscript] = {}  # what a name was read from
    for statement in loop.body:
        match statement:
            case ast.Assign(targets=[target], value=ast.Subscript() as source):
                pass
            case ast.Assign(targets=[target], value=ast.Name(id=name)) if name in known:
                source = known[name]
            case _:
                return []
        if isinstance(target, ast.Name):
            known[target.id] = source
            continue
        assert isinstance(target, ast.Subscript)
        starts = [_start(place.slice, loop.target.id) for place in (target, source)]
        if starts[0] is None or starts[1] is None:
            return []
        if any(isinstance(n, ast.Name) and n.id in known for s in starts for n in ast.walk(s)):
            return []  # where it goes is read in the loop
        if not isinstance(target.value, ast.Name) or not isinstance(source.value, ast.Name):
            return []
        found.append(_Copy(target.value.id, starts[0], source.value.id, starts[1]))
    apart = {c.target for c in found}.isdisjoint(c.source for c in found)
    return found if apart and len({c.target for c in found}) == len(found) else []


def _is_sum(statement: ast.stmt, loop: ast.For) -> bool:
    """``x = accumulate_sum(x, term)`` where x is one place that nothing else in the loop reads."""
    match statement:
        case ast.Assign(
            targets=[target],
            value=ast.Call(func=ast.Name(id="accumulate_sum"), args=[same, term]),
        ) if ast.unparse(target) == ast.unparse(same):
            pass
        case _:
            return False
    others = [s for s in loop.body if s is not statement]
    set_here = {n.id for n in ast.walk(loop) if isinstance(n, ast.Name) and _is_stored(n)}
    place = {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    whole = target.value if isinstance(target, ast.Subscript) else target
    assert isinstance(whole, ast.Name)
    if isinstance(target, ast.Subscript) and place & set_here:
        return False
    return not any(
        isinstance(n, ast.Name) and n.id == whole.id for s in [term, *others] for n in ast.walk(s)
    )


def _is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _start(index: ast.expr, step: str) -> ast.expr | None:
    """``start`` of an index ``step + start``, in sums of any order."""
    terms, waiting = [], [index]
    while waiting:
        term = waiting.pop()
        if isinstance(term, ast.BinOp) and isinstance(term.op, ast.Add):
            waiting += [term.left, term.right]
        else:
            terms.append(term)
    rest = [t for t in terms if not (isinstance(t, ast.Name) and t.id == step)]
    if len(rest) != len(terms) - 1:
        return None
    if any(isinstance(n, ast.Name) and n.id == step for t in rest for n in ast.walk(t)):
        return None
    if not all(isinstance(n, _PLAIN) for t in rest for n in ast.walk(t)):
        return None
    total: ast.expr = ast.Constant(0)
    for term in rest:
        total = ast.BinOp(total, ast.Add(), term)
    return total


class _Names(ast.NodeVisitor):
    """Which names have one value wherever they are read.

    A place in the text is the path of the blocks around it and its position. A reading has the
    value of a definition that stands before it in a block around it, if no other definition of
    that name stands in a block around or inside of that one.
    """

    def __init__(self, tree: ast.FunctionDef):
        self.path: tuple[int, ...] = ()
        self.position = self.blocks = 0
        self.defined: dict[str, list[tuple]] = {a.arg: [((), 0)] for a in tree.args.args}
        self.read: dict[str, list[tuple]] = {}
        for statement in tree.body:
            self.visit(statement)
        self.single = {name for name in self.defined if self._is_single(name)}

    def _is_single(self, name: str) -> bool:
        places = self.defined[name]
        paths = sorted(path for path, _ in places)  # one inside of another comes next to it
        if any(b[: len(a)] == a for a, b in itertools.pairwise(paths)):
            return False
        known = dict(places)
        return all(
            any(known.get(path[:n], position) < position for n in range(len(path) + 1))
            for path, position in self.read.get(name, ())
        )

    def _block(self, statements, target: ast.expr | None = None) -> None:
        self.blocks += 1
        outer, self.path = self.path, (*self.path, self.blocks)
        if target is not None:
            self.visit(target)
        for statement in statements:
            self.visit(statement)
        self.path = outer

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self._block(node.body, node.target)

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        self._block(node.body)

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._block(node.body)
        self._block(node.orelse)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        self.visit(node.target)
        if isinstance(node.target, ast.Name):
            self.visit(ast.Name(node.target.id, ast.Load()))

    def visit_Name(self, node: ast.Name) -> None:
        self.position += 1
        places = self.defined if isinstance(node.ctx, ast.Store) else self.read
        places.setdefault(node.id, []).append((self.path, self.position))


class _Lowering:
    """One function while it is lowered."""

    def __init__(self, tree: ast.FunctionDef, words: dict, builder):
        self.tree, self.words, self.builder = tree, words, builder
        self.single = _Names(tree).single
        self.values: dict[str, tuple] = {}  # of names to (kind, LLVM value)
        self.memory: dict[str, tuple] = {}  # of names to (kind, LLVM pointer)
        self.meanings: dict[str, ast.expr] = {}  # of names that stand for a fixed expression
        self.fixed: set[str] = set()
        self.out_of_line = False  # vector math is called rather than put in place
        self.result = None  # where the result goes
        self.breaks: list[ir.Block] = []  # where the loops around go on
        self.done = builder.append_basic_block("done")
        self.only_moves = all(isinstance(s, ast.For) for s in tree.body)
        self.buffers: set[str] = set()  # parameters that no other name reaches

    def run(self, kinds: Sequence, arguments: Sequence) -> None:
        for parameter, kind, value in zip(self.tree.args.args, kinds, arguments, strict=True):
            self._bind(parameter.arg, kind, value)
        self.block(self.tree.body)
        self._go(self.done)
        self.builder.position_at_end(self.done)

    def block(self, statements) -> None:
        for statement in statements:
            getattr(self, f"_{type(statement).__name__}", self._unknown)(statement)

    def _unknown(self, node: ast.AST):
        raise VerifyError(f"no meaning for generated code: {ast.unparse(node)}")

    def _go(self, block: ir.Block) -> None:
        """Go on in ``block``, unless what stands before never comes here."""
        if not self.builder.block.is_terminated:
            self.builder.branch(block)

    # ------------------------------------------------------------------------------ statements

    def _bind(self, name: str, kind, value) -> None:
        if name in self.single:
            self.values[name] = kind, value
            return
        if name not in self.memory:
            self.memory[name] = kind, local(self.builder, kind.value)
        known, place = self.memory[name]
        self.builder.store(convert(self.builder, value, kind, known), place)

    def _Assign(self, node: ast.Assign) -> None:
        (target,) = node.targets
        if isinstance(target, ast.Name) and self._is_fixed(target.id, node.value):
            # Read where it is used: hundreds of pointers that live from the start to their use
            # would not fit into registers, and sorting that out takes LLVM longest of all.
            self.meanings[target.id] = node.value
            return
        self._assign(target, *self.value(node.value))

    def _assign(self, target: ast.expr, kind, value) -> None:
        if isinstance(target, ast.Name):
            self._bind(target.id, kind, value)
        elif isinstance(target, ast.Subscript):
            element, place = self._place(target)
            store(self.builder, element, convert(self.builder, value, kind, element), place)
        else:
            self._unknown(target)

    def _AugAssign(self, node: ast.AugAssign) -> None:
        before = self.value(node.target)
        self._assign(node.target, *self._operation(node, before, self.value(node.value)))

    def _is_fixed(self, name: str, node: ast.expr) -> bool:
        """Whether an expression has one value as long as a main runs."""
        if not self.fixed or name not in self.single:
            return False
        words = {n.func.id for n in ast.walk(node) if isinstance(n, ast.Call)}  # type: ignore
        if any(word.startswith("local_") for word in words):
            return False  # memory of its own at each use
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - words
        read = [n.value for n in ast.walk(node) if isinstance(n, ast.Subscript)]
        return names <= self.fixed | self.meanings.keys() and all(
            isinstance(of, ast.Name) and of.id == "ints" for of in read
        )

    def _Expr(self, node: ast.Expr) -> None:
        self.value(node.value)

    def _Pass(self, node: ast.Pass) -> None:
        pass

    def _Return(self, node: ast.Return) -> None:
        if node.value is not None:
            kind, value = self.value(node.value)
            self.builder.store(convert(self.builder, value, kind, INT64), self.result)
        self._go(self.done)

    def _Break(self, node: ast.Break) -> None:
        self._go(self.breaks[-1])

    def _If(self, node: ast.If) -> None:
        then, after = (self.builder.append_basic_block(part) for part in ("then", "after"))
        other = self.builder.append_basic_block("else") if node.orelse else after
        self.builder.cbranch(self._bool(node.test), then, other)
        for block, statements in ((then, node.body), (other, node.orelse)):
            if statements:
                self.builder.position_at_end(block)
                self.block(statements)
                self._go(after)
        self.builder.position_at_end(after)

    def _While(self, node: ast.While) -> None:
        head, body, after = self._parts()
        self._go(head)
        self.builder.position_at_end(head)
        self.builder.cbranch(self._bool(node.test), body, after)
        self.builder.position_at_end(body)
        self.breaks.append(after)
        self.block(node.body)
        self.breaks.pop()
        self._go(head)
        self.builder.position_at_end(after)

    def _For(self, node: ast.For) -> None:
        """``for name in range([first,] end):``, or with ``abreast`` or ``unrolled``."""
        steps = node.iter
        if not (
            isinstance(node.target, ast.Name) and isinstance(steps, ast.Call)
            and isinstance(steps.func, ast.Name) and steps.func.id in _LOOPS
            and 1 <= len(steps.args) <= 2 and not node.orelse
        ):  # fmt: skip
            self._unknown(node)
        if self._is_copied(node, steps.args):
            return
        self.only_moves = False
        if steps.func.id == "unrolled":
            return self._unrolled(node)
        *first, end = (self._int(bound) for bound in steps.args)
        with self._loop(first[0] if first else end.type(0), end) as index:
            self._bind(node.target.id, INT64, index)
            body = self.builder.block
            self.block(node.body)
            latch = self.builder.block
        abreast = steps.func.id == "abreast" and latch is body and is_straight(body)
        if abreast and end.constant > UNASKED_WIDTH:
            width = min(end.constant, _WIDEST)
            ask_of_loop(latch, ("llvm.loop.vectorize.width", ir.IntType(32)(width)))

    def _unrolled(self, node: ast.For) -> None:
        """All steps one after the other. Sums over them are added up in pairs, pairs of pairs and
        so on: a chain of additions would wait for each."""
        (count,) = node.iter.args
        terms: dict[int, list[tuple]] = {id(s): [] for s in node.body if _is_sum(s, node)}
        assert isinstance(count, ast.Constant)
        for step in range(count.value):
            self._bind(node.target.id, INT64, INT64.value(step))
            for statement in node.body:
                if id(statement) in terms:
                    terms[id(statement)].append(self.value(statement.value.args[1]))
                else:
                    self.block([statement])
        word = self.words["accumulate_sum"]
        for statement in node.body:
            found = terms.get(id(statement))
            while found and len(found) > 1:
                pairs = zip(found[::2], found[1::2], strict=False)
                odd = found[len(found) & ~1 :]
                found = [self._sum_in_order(a, b) for a, b in pairs] + odd
            if found:
                before = self.value(statement.targets[0])
                self._assign(statement.targets[0], *word.call(self.builder, [before, *found]))

    def _sum_in_order(self, a: tuple, b: tuple) -> tuple:
        """Of terms of one kind; LLVM would put what it may reassociate into a chain again."""
        kind = a[0]
        if kind.is_float and kind == b[0]:
            return kind, self.builder.fadd(a[1], b[1])
        return self.words["accumulate_sum"].call(self.builder, [a, b])

    def _is_copied(self, node: ast.For, bounds: list[ast.expr]) -> bool:
        """Lower a loop that copies neighbours from some parameters to others as moves of memory:
        weights of hundreds of layers, stacked, would be hundreds of loops to vectorise."""
        copies = _copies(node) if len(bounds) == 1 else []
        if not copies or not {n for c in copies for n in (c.target, c.source)} <= self.buffers:
            return False
        if any(self.values[c.target][0] != self.values[c.source][0] for c in copies):
            return False
        builder, count = self.builder, self._int(bounds[0])
        pointer = ir.IntType(8).as_pointer()
        for copied in copies:
            kind, target = self.values[copied.target]
            _, source = self.values[copied.source]
            places = [
                builder.bitcast(builder.gep(start, [self._int(offset)], inbounds=True), pointer)
                for start, offset in ((target, copied.target_from), (source, copied.source_from))
            ]
            size = (kind.dtype.bits + 7) // 8
            if isinstance(count, ir.Constant):
                nbytes = count.type(max(count.constant, 0) * size)
            else:
                some = builder.icmp_signed(">", count, count.type(0))
                nbytes = builder.mul(builder.select(some, count, count.type(0)), count.type(size))
            if len(self.buffers) > _MANY_PARAMETERS:
                builder.call(_move(builder.module), [*places, nbytes])
            else:
                copy_bytes(builder, *places, nbytes)
        return True

    def _parts(self) -> list[ir.Block]:
        return [self.builder.append_basic_block(f"loop.{part}") for part in ("head", "body", "end")]

    @contextlib.contextmanager
    def _loop(self, first, end) -> Iterator:
        builder, start = self.builder, self.builder.block
        head, body, after = self._parts()
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(end.type)
        index.add_incoming(first, start)
        builder.cbranch(builder.icmp_signed("<", index, end), body, after)
        builder.position_at_end(body)
        self.breaks.append(after)
        yield index
        self.breaks.pop()
        if not builder.block.is_terminated:
            index.add_incoming(builder.add(index, end.type(1), flags=["nsw"]), builder.block)
            builder.branch(head)
        builder.position_at_end(after)

    # ------------------------------------------------------------------------------ expressions

    def value(self, node: ast.expr) -> tuple:
        """Its kind and its LLVM value."""
        return getattr(self, f"_value_of_{type(node).__name__}", self._unknown)(node)

    def _value_of_Name(self, node: ast.Name) -> tuple:
        if node.id in self.values:
            return self.values[node.id]
        if node.id in self.memory:
            kind, place = self.memory[node.id]
            return kind, self.builder.load(place)
        if node.id in self.meanings:
            return self.value(self.meanings[node.id])
        number = self.words.get(node.id)
        if isinstance(number, float):
            return FLOAT64, FLOAT64.value(number)
        return self._unknown(node)

    def _value_of_Constant(self, node: ast.Constant) -> tuple:
        kind = {bool: BOOL, int: INT64, float: FLOAT64}.get(type(node.value))
        return (kind, kind.value(node.value)) if kind else self._unknown(node)

    def _value_of_Subscript(self, node: ast.Subscript) -> tuple:
        element, place = self._place(node)
        return element, load(self.builder, element, place)

    def _place(self, node: ast.Subscript) -> tuple:
        buffer, pointer = self.value(node.value)
        if not isinstance(buffer, Buffer):
            self._unknown(node)
        index = self._int(node.slice)
        return buffer.dtype, self.builder.gep(pointer, [index], inbounds=True)

    def _value_of_Call(self, node: ast.Call) -> tuple:
        name = node.func.id if isinstance(node.func, ast.Name) and not node.keywords else ""
        word = self.words.get(name)
        if not isinstance(word, Word):
            self._unknown(node)
        arguments = [self.value(a) for a in node.args]
        if self.out_of_line and name in _OUT_OF_LINE:
            return self._called(word, arguments)
        return word.call(self.builder, arguments)

    def _called(self, word: Word, arguments: list[tuple]) -> tuple:
        """Thousands of copies would take LLVM minutes, and gain nothing where nothing is
        vectorised: a function for a word and its kind, made at its first call."""
        kind, module = arguments[0][0], self.builder.module
        kinds = [kind] * word.arity
        name = f"{word.name}_{kind.name}"
        if name not in module.globals:
            function = _function(module, name, kinds, kind)
            function.attributes.add("noinline")
            inner = ir.IRBuilder(function.append_basic_block("entry"))
            inner.ret(word.call(inner, list(zip(kinds, function.args, strict=True)))[1])
        function = module.globals[name]
        return calling(name, function.ftype, kinds, kind).call(self.builder, arguments)

    def _value_of_BinOp(self, node: ast.BinOp) -> tuple:
        return self._operation(node, self.value(node.left), self.value(node.right))

    def _operation(self, node: ast.BinOp | ast.AugAssign, left: tuple, right: tuple) -> tuple:
        operation = type(node.op)
        if operation in _WORDS:
            return self.words[_WORDS[operation]].call(self.builder, [left, right])
        kind, a, b = self._alike(node, left, right)
        table = _FLOAT if kind.is_float else _LOGICAL if kind == BOOL else _INTEGER
        if operation not in table:
            self._unknown(node)
        name = table[operation]
        if name == "ashr" and not kind.signed:
            name = "lshr"
        return kind, getattr(self.builder, name)(a, b)

    def _alike(self, node: ast.AST, left: tuple, right: tuple) -> tuple:
        """Two scalars as the wider of their kinds, which are of one family. A whole number in the
        text is of any."""
        (kind, a), (other, b) = left, right
        if not isinstance(kind, Kind) or not isinstance(other, Kind):
            self._unknown(node)
        if kind.family != other.family:
            if isinstance(b, ir.Constant) and other == INT64:
                b, other = convert(self.builder, b, other, kind), kind
            elif isinstance(a, ir.Constant) and kind == INT64:
                a, kind = convert(self.builder, a, kind, other), other
            else:
                self._unknown(node)
        wider = max(kind, other, key=lambda k: k.bits)
        return (
            wider, convert(self.builder, a, kind, wider), convert(self.builder, b, other, wider)
        )  # fmt: skip

    def _value_of_UnaryOp(self, node: ast.UnaryOp) -> tuple:
        if isinstance(node.op, ast.Not):
            return BOOL, self.builder.not_(self._bool(node.operand))
        kind, value = self.value(node.operand)
        if isinstance(node.op, ast.USub) and kind.is_float:
            return kind, self.builder.fneg(value)
        if isinstance(node.op, ast.USub) and kind.is_integer:
            if isinstance(value, ir.Constant):
                return kind, value.type(-value.constant)
            return kind, self.builder.neg(value)
        if isinstance(node.op, ast.Invert) and kind.is_integer:
            return kind, self.builder.not_(value)
        return self._unknown(node)

    def _value_of_Compare(self, node: ast.Compare) -> tuple:
        left, met = self.value(node.left), None
        for operation, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.value(comparator)
            holds = self._compare(node, _ORDER[type(operation)], left, right)
            met = holds if met is None else self.builder.and_(met, holds)
            left = right
        return BOOL, met

    def _compare(self, node: ast.AST, order: str, left: tuple, right: tuple):
        kind, a, b = self._alike(node, left, right)
        if kind.is_float:
            if order == "!=":
                return self.builder.fcmp_unordered(order, a, b)
            return self.builder.fcmp_ordered(order, a, b)
        compare = self.builder.icmp_signed if kind.signed else self.builder.icmp_unsigned
        return compare(order, a, b)

    def _value_of_BoolOp(self, node: ast.BoolOp) -> tuple:
        """All operands are computed where each may be; else no further than needed."""
        is_and = isinstance(node.op, ast.And)
        result = self._bool(node.values[0])
        for operand in node.values[1:]:
            if _is_harmless(operand):
                other = self._bool(operand)
                result = (self.builder.and_ if is_and else self.builder.or_)(result, other)
                continue
            start = self.builder.block
            more, after = (self.builder.append_basic_block(part) for part in ("more", "known"))
            self.builder.cbranch(result, *((more, after) if is_and else (after, more)))
            self.builder.position_at_end(more)
            other, end = self._bool(operand), self.builder.block
            self.builder.branch(after)
            self.builder.position_at_end(after)
            known = self.builder.phi(BOOL.value)
            known.add_incoming(BOOL.value(not is_and), start)
            known.add_incoming(other, end)
            result = known
        return BOOL, result

    def _value_of_IfExp(self, node: ast.IfExp) -> tuple:
        """Only one of the two is computed: the other may read what is not there."""
        builder = self.builder
        blocks = [builder.append_basic_block(part) for part in ("then", "else")]
        after = builder.append_basic_block("chosen")
        builder.cbranch(self._bool(node.test), *blocks)
        found = []
        for block, operand in zip(blocks, (node.body, node.orelse), strict=True):
            builder.position_at_end(block)
            found.append((*self.value(operand), builder.block))
            builder.branch(after)
        if found[0][0] != found[1][0]:
            self._unknown(node)
        builder.position_at_end(after)
        chosen = builder.phi(found[0][0].value)
        for _, value, block in found:
            chosen.add_incoming(value, block)
        return found[0][0], chosen

    def _bool(self, node: ast.expr):
        kind, value = self.value(node)
        return convert(self.builder, value, kind, BOOL)

    def _int(self, node: ast.expr):
        kind, value = self.value(node)
        if not (isinstance(kind, Kind) and kind.is_integer):
            self._unknown(node)
        return convert(self.builder, value, kind, INT64)


def _is_harmless(node: ast.expr) -> bool:
    """Neither reads memory nor calls what may do more than convert a number."""
    return not any(
        isinstance(n, ast.Subscript | ast.IfExp)
        or (
            isinstance(n, ast.Call)
            and (not isinstance(n.func, ast.Name) or n.func.id not in SCALARS)
        )
        for n in ast.walk(node)
    )
