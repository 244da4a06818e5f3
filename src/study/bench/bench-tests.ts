/** The tests that `nibble bench MODEL` runs. */

export interface BenchTests {
  /** Prompt lengths. Default 512; none with an empty list. */
  prompt?: readonly number[];
  /** Generation lengths. Default 128; none with an empty list. */
  generate?: readonly number[];
  /** Tokens that the caches hold before each test. Default 0. */
  depth?: readonly number[];
  /** How often each test runs. Default 3. */
  repetitions?: number;
  /** Texts at once, each with a prompt and a generation: other rows. Default: none. */
  parallel?: readonly number[];
  /** A text that answers quote, with and without guessing ahead: other rows. Default: none. */
  quote?: string;
  /** Also the time by operation, of one generated token and of one prompt chunk at each depth. */
  profile?: boolean;
}
