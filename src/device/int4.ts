/** What the cache's `int4` codec and the devices' layouts of it share. */

/** Values along a head under one scale and one zero. */
export const INT4_GROUP = 32;
