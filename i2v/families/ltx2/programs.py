"""LTX-2's transformer in chunks of tokens: diffusers' network and its blocks, operation for operation, as
`memory.tokens` runs them; see `spans.py` for what depends on how noisy a token is.

Shapes: S tokens of the pictures, L of the sound, r of a chunk; k degrees of noise.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from diffusers import LTX2VideoTransformer3DModel
from diffusers.models.transformers.transformer_ltx2 import (
    LTX2Attention,
    LTX2VideoTransformerBlock,
    apply_interleaved_rotary_emb,
    apply_split_rotary_emb,
)
from torch import Tensor, nn

from i2v.families.ltx2.spans import (
    KeysAndValues,
    Spans,
    Turn,
    Turning,
    attention_out,
    gated,
    last_layer,
    modulations,
    moved,
    through,
)
from i2v.memory.chunking import Forward, chunks
from i2v.memory.tokens import Program, by_heads


def _only_itself(attention: LTX2Attention, given: Tensor) -> Tensor:
    """As `KeysAndValues.asked` where every token looks at itself alone."""
    return attention_out(attention, given, by_heads(attention.to_v(given), attention.heads))


def _own_and_text(
    block: LTX2VideoTransformerBlock, prefix: str, tokens: Tensor, text: Tensor, modulation: Sequence[Tensor],
    text_modulation: Sequence[Tensor] | None, spans: Spans, turned: Turn, size: int, alone: bool,
) -> None:  # fmt: skip
    """The first half of a block for the pictures or, with its `prefix`, the sound: attention to one's own, then to the
    sentence. Overwrites `tokens`."""
    own, words = getattr(block, f"{prefix}attn1"), getattr(block, f"{prefix}attn2")
    first, second = getattr(block, f"{prefix}norm1"), getattr(block, f"{prefix}norm2")
    shift, scale, gate = modulation[:3]

    def inside(rows: slice) -> Tensor:
        return moved(first(tokens[:, rows]), scale, shift, spans, rows)

    if text_modulation is not None:
        text = text * (1 + text_modulation[1]) + text_modulation[0]
    read = KeysAndValues.of(words, lambda rows: text[:, rows], text.shape[1], 0)
    seen = None if alone else KeysAndValues.of(own, inside, tokens.shape[1], size, turned)
    for rows in chunks(tokens.shape[1], size):
        given = inside(rows)
        found = _only_itself(own, given) if seen is None else seen.asked(own, given, rows, turned)
        del given
        stream = tokens[:, rows] + gated(found, gate, spans, rows)
        del found
        given = second(stream)
        if len(modulation) > 6:
            given = moved(given, modulation[7], modulation[6], spans, rows)
        found = read.asked(words, given, rows)
        del given
        if len(modulation) > 6:
            found = gated(found, modulation[8], spans, rows)
        tokens[:, rows] = stream + found
        del stream, found


def _feed_forward(
    block: LTX2VideoTransformerBlock, prefix: str, stream: Tensor, modulation: Sequence[Tensor], spans: Spans,
    rows: slice,
) -> Tensor:  # fmt: skip
    """The end of a block, for the tokens of one chunk."""
    shift, scale, gate = modulation[3:6]
    given = moved(getattr(block, f"{prefix}norm3")(stream), scale, shift, spans, rows)
    return stream + gated(getattr(block, f"{prefix}ff")(given), gate, spans, rows)


def _block(block: LTX2VideoTransformerBlock, size: int) -> Forward:
    """Pictures and sound each attend to their own and to the sentence, then to each other; feed-forward."""

    def forward(
        tokens: Tensor, sounds: Tensor, text: Tensor, sound_text: Tensor, noises: tuple[Tensor, ...],
        spans: Spans, ones: Spans, across: Spans, turns: tuple[Turn, ...], apart: bool, alone: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """`noises`: what is known of the noise of pictures and sound, as `_network` makes it. `ones`: of tokens that
        are all alike, `across`: of the pictures' for what lies between them and the sound. `apart`: pictures and sound
        do not look at each other; `alone`: no token looks at others of its own."""
        embedded, sound_embedded, video_side, sound_side, video_gate, sound_gate, *of_text = noises
        own_turn, sound_turn, across_turn, sound_across_turn = turns
        modulation = modulations(block.scale_shift_table, embedded)
        sound_modulation = modulations(block.audio_scale_shift_table, sound_embedded)
        words = sound_words = None
        if of_text:
            words = modulations(block.prompt_scale_shift_table, of_text[0])
            sound_words = modulations(block.audio_prompt_scale_shift_table, of_text[1])
        elif block.cross_attn_adaln:  # of LTX-2.5: sentences are read alike, however noisy the rest is
            words = block.prompt_scale_shift_table.unbind(0)
            sound_words = block.audio_prompt_scale_shift_table.unbind(0)
        _own_and_text(block, "", tokens, text, modulation, words, spans, own_turn, size, alone)
        _own_and_text(block, "audio_", sounds, sound_text, sound_modulation, sound_words, ones, sound_turn, size, alone)

        count, sound_count = tokens.shape[1], sounds.shape[1]
        to_pictures, to_sound = block.audio_to_video_attn, block.video_to_audio_attn
        heard = gate = None
        if not apart:
            # In each: scale and shift towards the pictures, then towards the sound.
            table, sound_table = (
                block.video_a2v_cross_attn_scale_shift_table,
                block.audio_a2v_cross_attn_scale_shift_table,
            )
            side, sound_sides = modulations(table[:4], video_side), modulations(sound_table[:4], sound_side)
            (gate,), (sound_gated,) = modulations(table[4:], video_gate), modulations(sound_table[4:], sound_gate)

            def of_sound(rows: slice) -> Tensor:
                return moved(block.video_to_audio_norm(sounds[:, rows]), *sound_sides[:2], ones, rows)

            def of_pictures(rows: slice) -> Tensor:
                return moved(block.audio_to_video_norm(tokens[:, rows]), *side[2:], across, rows)

            # Both look at the other as it was before either has looked.
            heard = KeysAndValues.of(to_pictures, of_sound, sound_count, size, sound_across_turn)
            seen = KeysAndValues.of(to_sound, of_pictures, count, size, across_turn)
            for rows in chunks(sound_count, size):
                given = moved(block.video_to_audio_norm(sounds[:, rows]), *sound_sides[2:], ones, rows)
                found = seen.asked(to_sound, given, rows, sound_across_turn)
                sounds[:, rows] = sounds[:, rows] + gated(found, sound_gated, ones, rows)
                del given, found
            del seen
        for rows in chunks(count, size):
            stream = tokens[:, rows]
            if heard is not None and gate is not None:
                given = moved(block.audio_to_video_norm(stream), *side[:2], across, rows)
                stream = stream + gated(heard.asked(to_pictures, given, rows, across_turn), gate, across, rows)
                del given
            tokens[:, rows] = _feed_forward(block, "", stream, modulation, spans, rows)
            del stream
        for rows in chunks(sound_count, size):
            sounds[:, rows] = _feed_forward(block, "audio_", sounds[:, rows], sound_modulation, ones, rows)
        return tokens, sounds

    return forward


def _turning(rope: nn.Module, coordinates: Tensor, size: int) -> Turning:
    turn = apply_split_rotary_emb if rope.rope_type == "split" else apply_interleaved_rotary_emb
    return Turning(rope, turn, coordinates, size)


def _network(network: LTX2VideoTransformer3DModel, size: int) -> Forward:
    """What stands around the blocks. Tokens overwrite each other from block to block."""

    def forward(
        pictures: Tensor, sound: Tensor, text: Tensor, sound_text: Tensor, *,
        timesteps: Tensor, spans: Spans, timestep: Tensor, coordinates: Tensor, sound_coordinates: Tensor,
        across_by_timestep: bool, apart: bool = False, alone: Collection[int] = (),
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Velocities of the pictures (1, S, C) and the sound (1, L, D). `timesteps`: one for each row of `spans`;
        `timestep` (1,) of what is noisiest, and of the sound. `coordinates`, `sound_coordinates`: where tokens stand.
        `across_by_timestep`: what lies between pictures and sound depends on that alone. `alone`: numbers of blocks in
        which no token looks at others of its own."""
        ones: Spans = ((max(pictures.shape[1], sound.shape[1]), 0),)
        dtype, config = pictures.dtype, network.config
        turns = (
            _turning(network.rope, coordinates, size),
            _turning(network.audio_rope, sound_coordinates, size),
            _turning(network.cross_attn_rope, coordinates[:, :1], size),
            _turning(network.cross_attn_audio_rope, sound_coordinates[:, :1], size),
        )

        def embed(layer: nn.Module, noise: Tensor) -> tuple[Tensor, Tensor]:
            return layer(noise, batch_size=1, hidden_dtype=dtype)

        gate_scale = config.cross_attn_timestep_scale_multiplier / config.timestep_scale_multiplier
        between = timestep if across_by_timestep else timesteps
        noise, last = embed(network.time_embed, timesteps)
        sound_noise, sound_last = embed(network.audio_time_embed, timestep)
        noises = [
            noise,
            sound_noise,
            embed(network.av_cross_attn_video_scale_shift, between)[0],
            embed(network.av_cross_attn_audio_scale_shift, timestep)[0],
            embed(network.av_cross_attn_video_a2v_gate, between * gate_scale)[0],
            embed(network.av_cross_attn_audio_v2a_gate, timestep * gate_scale)[0],
        ]
        if network.prompt_modulation and config.use_prompt_adaln_single:
            noises += [embed(network.prompt_adaln, timestep)[0], embed(network.audio_prompt_adaln, timestep)[0]]
        if config.use_prompt_embeddings:
            text = network.caption_projection(text)
            sound_text = network.audio_caption_projection(sound_text)

        tokens, sounds = through(network.proj_in, pictures, size), through(network.audio_proj_in, sound, size)
        across = ones if across_by_timestep else spans
        for number, block in enumerate(network.transformer_blocks):
            tokens, sounds = block(
                tokens, sounds, text, sound_text, tuple(noises), spans, ones, across, turns, apart, number in alone
            )
        made = last_layer(network.norm_out, network.proj_out, network.scale_shift_table, tokens, last, spans, size)
        del tokens
        sound_made = last_layer(
            network.audio_norm_out, network.audio_proj_out, network.audio_scale_shift_table, sounds, sound_last, ones,
            size,
        )  # fmt: skip
        return made, sound_made

    return forward


PROGRAMS: dict[type[nn.Module], Program] = {
    LTX2VideoTransformer3DModel: _network,
    LTX2VideoTransformerBlock: _block,
}
