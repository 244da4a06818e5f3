/**
 * MLX's affine quantization in a safetensors folder: `X.weight` of packed u32 words, `X.scales` and `X.biases` with one
 * value for each group. This file joins the three into one tensor of an mlx type and reads bits and group sizes from
 * config.json. tensor.ts defines the joined block, blocks/mlx.ts its values.
 */
import { dequantize } from "./blocks.ts";
import { FormatError, UnsupportedError } from "./errors.ts";
import { asObject, describe, type JsonObject } from "./json.ts";
import { mxfp4Tensor } from "./mxfp4.ts";
import { checkRows } from "./range-tensor.ts";
import { count, type SafetensorsEntry } from "./safetensors-file.ts";
import { BLOCKS, rowBytes, type Tensor, type TensorType } from "./tensor.ts";

/** Packed bytes gathered at a time, which bounds the memory of `readRows` beyond `into`. */
const STEP_BYTES = 1024 * 1024;

const SCALE_TYPES: Readonly<Record<string, TensorType>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/** The three arrays of one weight. */
export interface MlxParts {
  weight: SafetensorsEntry;
  scales: SafetensorsEntry;
  biases: SafetensorsEntry | undefined;
}

/**
 * The mlx type of module `path` ("model.layers.0.mlp.up_proj") by config.json's `quantization`: its own entry, or else
 * the common one. Throws UnsupportedError for bits, group sizes and modes that tensor.ts does not list.
 */
export function mlxType(quantization: JsonObject, path: string, place: string): TensorType {
  const own = Object.hasOwn(quantization, path) ? quantization[path] : quantization;
  const { bits, group_size: group, mode = "affine" } = asObject(own, `${place}: quantization of ${path}`);
  const type = `mlx${describe(bits)}_g${describe(group)}`;
  if (mode === "mxfp4" && bits === 4 && group === BLOCKS.mxfp4.elements) return "mxfp4";
  if (mode !== "affine")
    throw new UnsupportedError(`${place}: MLX quantization mode ${describe(mode)} of ${path}`);
  if (Object.hasOwn(BLOCKS, type)) return type as TensorType;
  const found = `MLX quantization of ${path} with bits ${describe(bits)} and group_size ${describe(group)}`;
  throw new UnsupportedError(`${place}: ${found}`, "Supported: 4 and 8 bits with groups of 32, 64 and 128.");
}

/**
 * One tensor [rows, cols] of blocks [scale f32][bias f32][codes] over the three arrays. Throws FormatError if the
 * shapes disagree.
 */
export function mlxTensor({ weight, scales, biases }: MlxParts, type: TensorType): Tensor {
  if (type === "mxfp4") return mxfp4Tensor(weight.name, weight, scales);
  const { elements: group, bytes: blockBytes } = BLOCKS[type];
  const codeBytes = blockBytes - 8;
  const place = `${weight.source.name}: ${describe(weight.name)}`;
  const [words = 1] = weight.shape.slice(-1);
  const groups = (words * 4) / codeBytes;
  const rows = count(weight.shape.slice(0, -1));
  if (!biases) throw new FormatError(place, "scales without biases", "both for MLX's affine mode");
  for (const part of [scales, biases]) {
    const same =
      part.dtype === scales.dtype && String(part.shape) === String([...weight.shape.slice(0, -1), groups]);
    if (!same || !Object.hasOwn(SCALE_TYPES, part.dtype)) {
      const allowed = `F32, F16 or BF16 [${[...weight.shape.slice(0, -1), groups]}] for ${type}`;
      throw new FormatError(
        `${part.source.name}: ${describe(part.name)}`,
        `${part.dtype} [${part.shape}]`,
        allowed,
      );
    }
  }
  const shape = { name: weight.name, type, rows, cols: groups * group };
  const scaleType = SCALE_TYPES[scales.dtype];

  /** Joins `rowCount` rows from `first` on. All parts are whole u32 words, which copy faster than bytes. */
  async function gather(first: number, rowCount: number): Promise<Uint32Array> {
    const total = rowCount * groups;
    const [codes, scale, bias] = await Promise.all([
      readPart(weight, first * groups * codeBytes, total * codeBytes),
      readFloats(scales, scaleType, first * groups, total),
      readFloats(biases!, scaleType, first * groups, total),
    ]);
    const from = new Uint32Array(codes.buffer);
    const blocks = new Uint32Array((total * blockBytes) / 4);
    const floats = new Float32Array(blocks.buffer);
    for (let block = 0, at = 0, to = 0; block < total; block++) {
      floats[to++] = scale[block];
      floats[to++] = bias[block];
      for (let word = 0; word < codeBytes / 4; word++) blocks[to++] = from[at++];
    }
    return blocks;
  }

  return {
    ...shape,
    async readRows(first, rowCount, into) {
      checkRows(shape, first, rowCount, into);
      const step = Math.max(1, Math.floor(STEP_BYTES / (words * 4)));
      for (let done = 0; done < rowCount; done += step) {
        const blocks = await gather(first + done, Math.min(step, rowCount - done));
        into.set(new Uint8Array(blocks.buffer), done * rowBytes(type, shape.cols));
      }
    },
  };
}

async function readPart(entry: SafetensorsEntry, offset: number, bytes: number): Promise<Uint8Array> {
  const into = new Uint8Array(bytes);
  await entry.source.read(entry.offset + offset, into);
  return into;
}

async function readFloats(entry: SafetensorsEntry, type: TensorType, first: number, floats: number) {
  const values = new Float32Array(floats);
  dequantize(type, await readPart(entry, first * BLOCKS[type].bytes, floats * BLOCKS[type].bytes), values);
  return values;
}
