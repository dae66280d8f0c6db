"""The loop around a compiled training step: many epochs in one native call.

The driver is the same for every model: it shuffles, gathers rows by their bytes and calls the
step through its C pointer, so it is compiled once for a machine and lives in the kernel cache.

It sets its thread to flush subnormal numbers to zero: the moments of an optimizer decay into
them wherever a gradient stays 0, and each operation on one costs over a hundred cycles (measured:
a step five times slower). The thread is graphc's own and ends with the run.
"""

from __future__ import annotations

import numpy as np

from graphc.runtime.loader import NativeFunction
from graphc.runtime.once import once
from graphc.runtime.support import support_function

# Words of the control block.
STOP, STATUS, DONE, LIMIT, SAMPLES, BATCH, EPOCHS, EPOCHS_DONE = range(8)
SHUFFLE, RANDOM, STREAMS, WIDE_LOSS, SYMBOLIC, FULL_STEP, LAST_STEP = range(8, 15)
FULL_ARENA, LAST_ARENA, TURNS, CONTROL_WORDS = range(15, 19)
# Words of a stream: where its rows are, where a batch is gathered, bytes a row, argument number.
SOURCE, GATHERED, ROW_BYTES, ARGUMENT, STREAM_WORDS = range(5)
# Values of STATUS.
FINISHED, STOPPED, NONFINITE, LIMITED, BAD_INDEX = range(5)

_TEXT = f"""
def main(args, arena, ints):
    control = argument_i64(args, 0)
    streams = argument_i64(args, 1)
    order = argument_i64(args, 2)
    epoch_losses = argument_f64(args, 3)
    last_loss = argument_f64(args, 4)
    flush_subnormals()
    samples = control[{SAMPLES}]
    epoch = 0
    done = control[{DONE}]
    while epoch < control[{EPOCHS}]:
        if control[{SHUFFLE}] != 0:
            for i in range(samples):
                order[i] = i
            state = splitmix_output(control[{RANDOM}] + epoch)
            for k in range(samples - 1):
                i = samples - 1 - k
                state = splitmix_next(state)
                j = scaled_draw(splitmix_output(state), i + 1)
                swapped = order[i]
                order[i] = order[j]
                order[j] = swapped
        total = 0.0
        first = 0
        while first < samples:
            if control[{STOP}] != 0:
                control[{STATUS}] = {STOPPED}
                return
            if done == control[{LIMIT}]:
                control[{STATUS}] = {LIMITED}
                return
            rows = control[{BATCH}]
            last = 0
            turns = 1
            if samples - first < rows:
                rows = samples - first
                last = 1
            elif control[{TURNS}] != 0:
                turns = smaller(control[{TURNS}], (samples - first) // rows)
                if rows == samples and control[{SHUFFLE}] == 0:
                    turns = smaller(control[{TURNS}], control[{EPOCHS}] - epoch)
                if control[{LIMIT}] >= 0:
                    turns = smaller(turns, control[{LIMIT}] - done)
            table = argument_i64(args, 5 + 3 * last)
            words = argument_i64(args, 6 + 3 * last)
            for s in range(control[{STREAMS}]):
                base = s * {STREAM_WORDS}
                width = streams[base + {ROW_BYTES}]
                source = streams[base + {SOURCE}]
                target = streams[base + {GATHERED}]
                if control[{SHUFFLE}] != 0:
                    for row in range(turns * rows):
                        at = order[first + row]
                        copy_bytes(target + row * width, source + at * width, width)
                else:
                    target = source + first * width
                table[streams[base + {ARGUMENT}]] = target
            if last == 0 and control[{TURNS}] != 0:
                words[2] = turns
            elif control[{SYMBOLIC}] != 0:
                words[2] = rows
            call_step(control[{FULL_STEP} + last], table, control[{FULL_ARENA} + last], words)
            if words[0] != 0:
                control[{STATUS}] = {BAD_INDEX}
                return
            losses = argument_f64(args, 7 + 3 * last)
            if control[{WIDE_LOSS}] == 0:
                narrow = argument_f32(args, 7 + 3 * last)
                losses = argument_f64(args, 11)
                for turn in range(turns):
                    losses[turn] = f64(narrow[turn])
            good = turns
            finite = 0
            for turn in range(turns):
                finite += select(losses[turn] - losses[turn] == 0.0, 1, 0)
            if finite < turns:
                good = 0
                while losses[good] - losses[good] == 0.0:
                    good += 1
            done += good
            control[{DONE}] = done
            if good > 0:
                last_loss[0] = losses[good - 1]
            if rows == samples:
                for turn in range(good):
                    epoch_losses[epoch + turn] = losses[turn]
                epoch += good
            else:
                for turn in range(good):
                    total += losses[turn] * f64(rows)
                if first + good * rows == samples:
                    epoch_losses[epoch] = total / f64(samples)
                    epoch += 1
            control[{EPOCHS_DONE}] = epoch
            if good < turns:
                control[{STATUS}] = {NONFINITE}
                return
            first = smaller(samples, first + turns * rows)
    control[{STATUS}] = {FINISHED}
"""


@once
def load() -> NativeFunction:
    """The driver for this process, from the kernel cache or compiled."""
    return support_function("driver", _TEXT)


def control_block() -> np.ndarray:
    return np.zeros(CONTROL_WORDS, np.int64)
