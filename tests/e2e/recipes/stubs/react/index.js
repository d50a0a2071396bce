// As much of React as one hook needs: state that renders again, refs, effects.
let cells;
let at;
let again;

const cell = (make) => {
  const index = at++;
  cells[index] ??= make();
  return cells[index];
};

export const useRef = (current) => cell(() => ({ current }));
export const useCallback = (callback) => callback;

export function useState(initial) {
  const mine = cell(() => ({ value: initial }));
  const render = again;
  const set = (value) => {
    if (mine.value === value) return;
    mine.value = value;
    render();
  };
  return [mine.value, set];
}

export const useEffect = (effect) => cell(() => ({ leave: effect() }));

export function render(component, onRender) {
  const own = [];
  const screen = { leave: () => own.forEach((each) => each.leave?.()) };
  const draw = () => {
    [cells, at, again] = [own, 0, draw];
    screen.current = component();
    onRender(screen.current);
  };
  draw();
  return screen;
}
