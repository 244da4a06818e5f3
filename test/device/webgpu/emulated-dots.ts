/** matmulDots without subgroups, for a GPU in software: a workgroup is one subgroup of 32, whose lanes meet in workgroup memory. */
const SHUFFLES = `
var<private> invocation: u32;
var<workgroup> laneFours: array<vec4<f32>, 32>;

fn lanesShuffleXor(x: vec4<f32>, mask: u32) -> vec4<f32> {
  workgroupBarrier();
  laneFours[invocation] = x;
  workgroupBarrier();
  return laneFours[invocation ^ mask];
}
`;

/** The text of matmulDots with its libraries, for a device without features. */
export function emulatedDots(text: string): string {
  return (
    text
      .replace(/^diagnostic.*$/m, "")
      .replace(/^const SUBGROUPS: u32 = \d+u;/m, "const SUBGROUPS: u32 = 1u;")
      // Barriers want to see that all threads take part.
      .replace("place.y * SUBGROUPS + local / SUBGROUP", "place.y")
      .replaceAll("subgroupShuffleXor(", "lanesShuffleXor(")
      .replace(/(@builtin\(local_invocation_index\) (\w+): u32\) \{)/, "$1\n  invocation = $2;") + SHUFFLES
  );
}
