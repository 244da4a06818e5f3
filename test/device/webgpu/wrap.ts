/** Objects with some members replaced. */

/** `target` with some members replaced. The others keep their `this`, which native objects insist on. */
export function wrapped<T extends object>(target: T, members: { [Key in keyof T]?: unknown }): T {
  return new Proxy(target, {
    get(_, key) {
      if (Object.hasOwn(members, key)) return members[key as keyof T];
      const value = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
