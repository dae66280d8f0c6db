"""W7: a small GPT: two pre-LN transformer blocks with causal attention, Adam."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.core import Params, Tolerance, Workload
from bench.limits import training
from bench.models import Adam, Ops
from bench.training import Task, training_case

BATCH, STEPS = 8, 8
EPS = 1e-5


@dataclass(frozen=True)
class GPT:
    """x (batch, time) token numbers -> scores of the next token; y the next tokens."""

    vocabulary: int
    time: int
    width: int
    heads: int
    blocks: int
    torch_takes_labels = False  # y is class numbers for everyone

    def init(self, rng: np.random.Generator) -> Params:
        d = self.width

        def normal(*shape):
            return rng.normal(0, 0.02, shape).astype(np.float32)

        def zeros(n):
            return np.zeros(n, np.float32)

        params = {"tokens": normal(self.vocabulary, d), "places": normal(self.time, d)}
        for k in range(self.blocks):
            params |= {
                f"g1_{k}": zeros(d) + 1, f"s1_{k}": zeros(d),
                f"Wqkv_{k}": normal(d, 3 * d), f"bqkv_{k}": zeros(3 * d),
                f"Wo_{k}": normal(d, d), f"bo_{k}": zeros(d),
                f"g2_{k}": zeros(d) + 1, f"s2_{k}": zeros(d),
                f"Wu_{k}": normal(d, 4 * d), f"bu_{k}": zeros(4 * d),
                f"Wd_{k}": normal(4 * d, d), f"bd_{k}": zeros(d),
            }  # fmt: skip
        return params | {"g": zeros(d) + 1, "s": zeros(d), "W": normal(d, self.vocabulary)}

    def make_loss(self, ops: Ops) -> Callable:
        np, erf, log_softmax = ops.np, ops.erf, ops.log_softmax
        d, heads, time = self.width, self.heads, self.time
        size = d // heads

        def layer_norm(x, gain, shift):
            centred = x - np.mean(x, axis=-1, keepdims=True)
            variance = np.mean(centred * centred, axis=-1, keepdims=True)
            return centred / np.sqrt(variance + EPS) * gain + shift

        def gelu(x):
            return 0.5 * x * (1 + erf(x / math.sqrt(2)))

        def softmax(z):
            e = np.exp(z - np.max(z, axis=-1, keepdims=True))
            return e / np.sum(e, axis=-1, keepdims=True)

        def attention(p, k, x):
            batch = len(x) // time
            qkv = (x @ p[f"Wqkv_{k}"] + p[f"bqkv_{k}"]).reshape(batch, time, 3, heads, size)
            q, key, v = (np.transpose(qkv[:, :, i], (0, 2, 1, 3)) for i in range(3))
            scores = q @ np.swapaxes(key, -1, -2) / math.sqrt(size)
            weights = softmax(np.where(causal, scores, -math.inf))
            mixed = np.transpose(weights @ v, (0, 2, 1, 3)).reshape(batch * time, d)
            return mixed @ p[f"Wo_{k}"] + p[f"bo_{k}"]

        def loss(p, x, y):
            batch = x.shape[0]
            h = (p["tokens"][x] + p["places"]).reshape(batch * time, d)
            for k in range(self.blocks):
                h = h + attention(p, k, layer_norm(h, p[f"g1_{k}"], p[f"s1_{k}"]))
                wide = layer_norm(h, p[f"g2_{k}"], p[f"s2_{k}"]) @ p[f"Wu_{k}"] + p[f"bu_{k}"]
                h = h + gelu(wide) @ p[f"Wd_{k}"] + p[f"bd_{k}"]
            scores = layer_norm(h, p["g"], p["s"]) @ p["W"]
            each = np.arange(batch * time)
            return -np.mean(log_softmax(scores)[each, y.reshape(batch * time)])

        causal = np.tril(np.ones((time, time), bool))
        return loss

    def make_torch_loss(self) -> Callable:
        import torch
        import torch.nn.functional as F

        d, heads = self.width, self.heads

        def loss(p, x, y):
            p = iter(p)
            tokens, places = next(p), next(p)
            batch, time = x.shape
            h = F.embedding(x, tokens) + places
            for _ in range(self.blocks):
                n = F.layer_norm(h, (d,), next(p), next(p), EPS)
                w, b = next(p), next(p)
                qkv = torch.addmm(b, n.view(-1, d), w).view(batch, time, 3, heads, d // heads)
                q, k, v = qkv.permute(2, 0, 3, 1, 4)
                mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                w, b = next(p), next(p)
                h = h + (mixed.transpose(1, 2).reshape(batch, time, d) @ w + b)
                n = F.layer_norm(h, (d,), next(p), next(p), EPS)
                w, b = next(p), next(p)
                wide = F.gelu(torch.addmm(b, n.view(-1, d), w))
                w, b = next(p), next(p)
                h = h + torch.addmm(b, wide, w).view(batch, time, d)
            h = F.layer_norm(h, (d,), next(p), next(p), EPS)
            return F.cross_entropy((h @ next(p)).view(-1, self.vocabulary), y.flatten())

        return loss

    def loss_and_grads(self, params: Params, x, y):
        return _ByHand(self, params).loss_and_grads(x, y)


class _ByHand:
    """Forward and backward; every layer's backward adds to `grads` and returns the cotangent."""

    def __init__(self, model: GPT, params: Params):
        self.model, self.p, self.grads = model, params, {}

    def loss_and_grads(self, x, y):
        m, p, grads = self.model, self.p, self.grads
        h = p["tokens"][x] + p["places"]
        backward = []
        for k in range(m.blocks):
            for part in (self.attention, self.feed_forward):
                change, back = part(k, h)
                backward.append(back)
                h = h + change
        n, norm_back = self.layer_norm("g", "s", h)
        scores = n @ p["W"]
        scores -= scores.max(axis=-1, keepdims=True)
        e = np.exp(scores)
        total = e.sum(axis=-1, keepdims=True)
        hit = np.eye(m.vocabulary, dtype=h.dtype)[y]
        loss = np.mean(np.log(total[..., 0]) - np.sum(hit * scores, axis=-1))
        bar = (e / total - hit) / y.size
        grads["W"] = np.einsum("btd,btv->dv", n, bar)
        bar = norm_back(bar @ p["W"].T)
        for back in reversed(backward):
            bar = bar + back(bar)
        grads["tokens"] = np.zeros_like(p["tokens"])
        np.add.at(grads["tokens"], x, bar)
        grads["places"] = bar.sum(axis=0)
        return loss, grads

    def linear(self, w, b, x):
        def back(bar):
            self.grads[w] = np.einsum("bti,bto->io", x, bar)
            self.grads[b] = bar.sum(axis=(0, 1))
            return bar @ self.p[w].T

        return x @ self.p[w] + self.p[b], back

    def layer_norm(self, g, s, x):
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = 1 / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + EPS)
        normed = centred * scale

        def back(bar):
            self.grads[g] = np.sum(bar * normed, axis=(0, 1))
            self.grads[s] = bar.sum(axis=(0, 1))
            bar = bar * self.p[g]
            along = np.mean(bar * normed, axis=-1, keepdims=True)
            return scale * (bar - bar.mean(axis=-1, keepdims=True) - normed * along)

        return normed * self.p[g] + self.p[s], back

    def attention(self, k, h):
        m = self.model
        batch, time, d = h.shape
        split = (batch, time, 3, m.heads, d // m.heads)
        n, norm_back = self.layer_norm(f"g1_{k}", f"s1_{k}", h)
        qkv, in_back = self.linear(f"Wqkv_{k}", f"bqkv_{k}", n)
        q, key, v = qkv.reshape(split).transpose(2, 0, 3, 1, 4)
        root = math.sqrt(d // m.heads)
        scores = q @ key.swapaxes(-1, -2) / root
        scores = np.where(np.tril(np.ones((time, time), bool)), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(h.shape)
        out, out_back = self.linear(f"Wo_{k}", f"bo_{k}", mixed)

        def back(bar):
            bar = out_back(bar).reshape(batch, time, m.heads, -1).transpose(0, 2, 1, 3)
            weights_bar = bar @ v.swapaxes(-1, -2)
            along = np.sum(weights_bar * weights, axis=-1, keepdims=True)
            scores_bar = weights * (weights_bar - along) / root
            q_bar, key_bar = scores_bar @ key, scores_bar.swapaxes(-1, -2) @ q
            qkv_bar = np.stack([q_bar, key_bar, weights.swapaxes(-1, -2) @ bar])
            qkv_bar = qkv_bar.transpose(1, 3, 0, 2, 4).reshape(batch, time, 3 * d)
            return norm_back(in_back(qkv_bar))

        return out, back

    def feed_forward(self, k, h):
        from scipy.special import erf

        n, norm_back = self.layer_norm(f"g2_{k}", f"s2_{k}", h)
        wide, up_back = self.linear(f"Wu_{k}", f"bu_{k}", n)
        cdf = 0.5 * (1 + erf(wide / math.sqrt(2)))
        out, down_back = self.linear(f"Wd_{k}", f"bd_{k}", wide * cdf)

        def back(bar):
            density = np.exp(-0.5 * wide * wide) / math.sqrt(2 * math.pi)
            return norm_back(up_back(down_back(bar) * (cdf + wide * density)))

        return out, back


def make():
    rng = np.random.default_rng(7)
    model = GPT(vocabulary=65, time=64, width=64, heads=4, blocks=2)
    # A text with structure: each token follows from the one before, most of the time.
    follow = rng.integers(0, model.vocabulary, (model.vocabulary, 3))
    text = np.zeros((BATCH * STEPS, model.time + 1), np.int64)
    for t in range(1, text.shape[1]):
        text[:, t] = follow[text[:, t - 1], rng.integers(0, 3, len(text))]
    x, y = np.ascontiguousarray(text[:, :-1]), np.ascontiguousarray(text[:, 1:])
    task = Task(model, Adam(1e-3), model.init(rng), x, y, BATCH)
    return training_case(task, Tolerance(loss=1e-4, params=5e-3))


def work():
    d, time, vocabulary, blocks = 64, 64, 65, 2
    block = 12 * d * d + 2 * time * d  # weights, and scores with their mixing, for each token
    products = 2 * BATCH * time * (blocks * block + d * vocabulary)
    parameters = blocks * (12 * d * d + 13 * d) + (2 * vocabulary + time + 2) * d
    return training(products, 0, parameters, "adam", 2 * BATCH * time)


TITLE = "GPT, 2 blocks, d 64, 4 heads, T 64, batch 8, Adam, float32"
WORKLOAD = Workload("W7", TITLE, make, work())
