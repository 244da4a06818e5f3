/** Shared by the cache's `int4` codec and the devices' layouts of it. */

/** Consecutive values of a head that share one scale and one zero. */
export const INT4_GROUP = 32;
